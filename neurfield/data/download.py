# SPDX-License-Identifier: Apache-2.0
"""Fetches a file over HTTP: continues what an earlier try left, checks its SHA-256, appears complete or not at all."""

import hashlib
import http.client
import json
import os
import time
import urllib.error
import urllib.request
from email.message import Message
from pathlib import Path
from urllib.parse import urlsplit

from neurfield.errors import MachineError, UserError
from neurfield.files import atomic_write
from neurfield.progress import TextProgress, silent

CHUNK = 1 << 18
TIMEOUT = 60.0  # seconds without a byte
N_TRIES = 4
PAUSE = 2.0  # seconds before the second try, doubled for each further one


def fetch(
    url: str,
    target: Path,
    sha256: str | None,
    max_bytes: int,
    progress: TextProgress = silent,
    pause: float = PAUSE,
) -> str:
    """Downloads `url` to the file `target` and returns its SHA-256.

    What was fetched lies in `.NAME.part` beside the target until it is whole; a later call continues there if the
    server still has the same file (ETag or date). Broken connections are tried again.

    Args:
        url: http, https or file.
        target: is replaced when the download is whole and its hash is right.
        sha256: expected hash in hex, or None for any.
        max_bytes: refuse more.
        progress: called with the fraction done (0 when the server gives no size) and a text.
        pause: seconds before the first new try.

    Raises:
        UserError: another scheme, an address that is gone, a web page instead of a file, too large, or a wrong hash.
        MachineError: the network or the disk failed; what was fetched is kept.
    """
    if urlsplit(url).scheme not in ("http", "https", "file"):
        raise UserError(f"{url}: expected an address that starts with http://, https:// or file://")
    part = target.with_name(f".{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_all(url, part, max_bytes, progress, pause)
        found = file_sha256(part)
        if sha256 is not None and found != sha256.lower():
            _forget(part)
            raise UserError(f"{url}: the SHA-256 is {found}, expected {sha256.lower()}; the file was deleted")
        os.replace(part, target)
        _forget(part)
    except OSError as error:
        raise MachineError(f"cannot write {part}: {error.strerror or error}") from None
    return found


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_hash(path: Path) -> str | None:
    """The hash that `keep_hash` left in a file, None where there is no file.

    Raises:
        UserError: the file holds something else.
    """
    try:
        words = path.read_text(encoding="ascii").split()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError):
        words = []
    if not words or not is_sha256(words[0]):
        raise UserError(f"{path}: expected a SHA-256; remove the file to take the next download as it is")
    return words[0]


def keep_hash(path: Path, sha256: str, url: str) -> None:
    """Writes down what a download had, in the layout of sha256sum."""
    with atomic_write(path) as file:
        file.write(f"{sha256}  {url}\n".encode())


def is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text.lower()) <= set("0123456789abcdef")


def _fetch_all(url: str, part: Path, max_bytes: int, progress: TextProgress, pause: float) -> None:
    for attempt in range(N_TRIES):
        try:
            if _fetch_once(url, part, max_bytes, progress):
                return
            reason = "the connection ended early"
        except urllib.error.HTTPError as error:
            if error.code == 416 and part.exists():  # nothing is left to send: what we have does not fit the file
                _forget(part)
            elif error.code < 500:
                reason = f"the server answers {error.code} {error.reason}"
                raise UserError(f"{url}: {reason}; give another address with --url") from None
            reason = f"the server answers {error.code}"
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
            reason = str(getattr(error, "reason", error)) or type(error).__name__
        if attempt + 1 < N_TRIES:
            time.sleep(pause * 2**attempt)
    kept = part.stat().st_size / 1e6 if part.exists() else 0
    raise MachineError(f"{url}: {reason}, {N_TRIES} tries; {kept:.1f} MB are kept, run the command again to continue")


def _fetch_once(url: str, part: Path, max_bytes: int, progress: TextProgress) -> bool:
    """Appends to the part or starts it; true when the file is whole."""
    have = part.stat().st_size if part.exists() else 0
    known = _read_state(part)
    headers = {"User-Agent": "neurfield", "Accept-Encoding": "identity"}
    if have and known.get("url") == url and known.get("version"):
        headers |= {"Range": f"bytes={have}-", "If-Range": known["version"]}
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.headers.get_content_type() == "text/html":
            raise UserError(f"{url}: the server sends a web page, not a file (a quota or a login?); give another --url")
        continues = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if response.status == 206 and not continues:
            _forget(part)
            return False
        have = have if continues else 0
        length = response.headers.get("Content-Length")
        total = have + int(length) if length else None
        if (total or 0) > max_bytes:
            raise UserError(f"{url}: {(total or 0) / 1e9:.1f} GB are more than the {max_bytes / 1e9:g} GB allowed")
        _state_file(part).write_text(json.dumps({"url": url, "version": _version(response.headers)}))
        with part.open("ab" if continues else "wb") as file:
            while chunk := response.read(CHUNK):
                have += len(chunk)
                if have > max_bytes:
                    raise UserError(f"{url}: more than the {max_bytes / 1e9:g} GB allowed")
                file.write(chunk)
                of_all = f" of {total / 1e6:.1f}" if total else ""
                progress(have / total if total else 0.0, f"{have / 1e6:.1f}{of_all} MB")
            file.flush()
            os.fsync(file.fileno())
    return total is None or have == total


def _version(headers: Message) -> str:
    """What tells one version of the file from another; weak ETags do not promise the same bytes."""
    etag = headers.get("ETag", "")
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "")


def _state_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_state(part: Path) -> dict[str, str]:
    try:
        state = json.loads(_state_file(part).read_text())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_file(part).unlink(missing_ok=True)
