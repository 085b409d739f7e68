# SPDX-License-Identifier: Apache-2.0
"""Downloads from a server on this machine: whole, continued, broken, wrong; archives that must not be unpacked."""

import errno
import hashlib
import io
import os
import shutil
import stat
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurfield.cli.main import main
from neurfield.data.archive import extract
from neurfield.data.download import fetch
from neurfield.data.public_sets import PUBLIC_SETS
from neurfield.errors import MachineError, UserError
from tests.data.small import synthetic

GIGABYTE = 10**9


class Server:
    """Serves one file; what it does wrong is set by the test. `requests` holds the Range of each request."""

    def __init__(self, content: bytes):
        self.content = content
        self.etag: str | None = '"1"'
        self.cut_after: list[int] = []  # bytes to send before the connection is closed, per request
        self.status = 200
        self.content_type = "application/zip"
        self.has_length = True
        self.requests: list[str | None] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *arguments: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}/file.zip"
        self.thread = threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.requests.append(wanted)
        if self.status != 200:
            handler.send_error(self.status)
            return
        start = 0
        if wanted and handler.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", self.content_type)
        if self.has_length:
            handler.send_header("Content-Length", str(len(self.content) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        if self.etag:
            handler.send_header("ETag", self.etag)
        handler.end_headers()
        end = start + self.cut_after.pop(0) if self.cut_after else len(self.content)
        handler.wfile.write(self.content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server(np.random.default_rng(0).bytes(300_000))
    yield running
    running.http.shutdown()
    running.http.server_close()
    running.thread.join()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_a_whole_file(tmp_path: Path, server: Server) -> None:
    seen: list[float] = []
    target = tmp_path / "new/a.zip"
    found = fetch(server.url, target, sha256(server.content).upper(), GIGABYTE, lambda done, text: seen.append(done))
    assert found == sha256(server.content) and target.read_bytes() == server.content
    assert leftovers(tmp_path) == ["a.zip"] and seen == sorted(seen) and seen[-1] == 1.0


def test_a_broken_connection_is_continued(tmp_path: Path, server: Server) -> None:
    server.cut_after = [100_000, 50_000]
    fetch(server.url, tmp_path / "a.zip", sha256(server.content), GIGABYTE, pause=0.01)
    assert (tmp_path / "a.zip").read_bytes() == server.content
    assert server.requests == [None, "bytes=100000-", "bytes=150000-"]


def test_a_later_call_continues_what_was_kept(tmp_path: Path, server: Server) -> None:
    server.cut_after = [1000, 1000, 1000, 1000]
    with pytest.raises(MachineError, match=r"4 tries; 0\.0 MB are kept, run the command again"):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE, pause=0.001)
    assert not (tmp_path / "a.zip").exists()
    fetch(server.url, tmp_path / "a.zip", None, GIGABYTE)
    assert (tmp_path / "a.zip").read_bytes() == server.content and server.requests[-1] == "bytes=4000-"


def test_a_file_that_changed_is_fetched_anew(tmp_path: Path, server: Server) -> None:
    server.cut_after = [1000, 0, 0, 0]
    with pytest.raises(MachineError):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE, pause=0.001)
    server.etag, server.content = '"2"', server.content[::-1]
    fetch(server.url, tmp_path / "a.zip", None, GIGABYTE)
    assert (tmp_path / "a.zip").read_bytes() == server.content


@pytest.mark.parametrize("etag", [None, 'W/"1"'])
def test_without_a_version_nothing_is_continued(tmp_path: Path, server: Server, etag: str | None) -> None:
    server.etag, server.cut_after = etag, [1000]
    fetch(server.url, tmp_path / "a.zip", None, GIGABYTE, pause=0.001)
    assert server.requests == [None, None] and (tmp_path / "a.zip").read_bytes() == server.content


def test_a_wrong_hash_leaves_nothing(tmp_path: Path, server: Server) -> None:
    with pytest.raises(UserError, match=f"the SHA-256 is {sha256(server.content)}, expected {'0' * 64}"):
        fetch(server.url, tmp_path / "a.zip", "0" * 64, GIGABYTE)
    assert leftovers(tmp_path) == []


def test_answers_that_are_no_file(tmp_path: Path, server: Server) -> None:
    server.content_type = "text/html; charset=utf-8"
    with pytest.raises(UserError, match="sends a web page, not a file"):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE)
    server.status = 404
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE)
    server.status = 503
    with pytest.raises(MachineError, match="the server answers 503, 4 tries"):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE, pause=0.001)
    for url in ("ftp://127.0.0.1/a", "a.zip", ""):
        with pytest.raises(UserError, match="expected an address"):
            fetch(url, tmp_path / "a.zip", None, GIGABYTE)


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="refused"):
        fetch("http://127.0.0.1:9/a.zip", tmp_path / "a.zip", None, GIGABYTE, pause=0.001)


@pytest.mark.parametrize("has_length", [True, False])
def test_too_large(tmp_path: Path, server: Server, has_length: bool) -> None:
    server.has_length = has_length
    with pytest.raises(UserError, match="GB allowed"):
        fetch(server.url, tmp_path / "a.zip", None, 100_000)
    assert not (tmp_path / "a.zip").exists()


def test_a_full_disk(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"cannot write .*: No space left on device"):
        fetch(server.url, tmp_path / "a.zip", None, GIGABYTE)
    assert not (tmp_path / "a.zip").exists()


# --- archives ---


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def tarred(path: Path, files: dict[str, bytes], *extra: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
        for entry in extra:
            archive.addfile(entry)
    return path


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_files_are_unpacked_without_the_top_folder_and_junk(tmp_path: Path, pack: Any) -> None:
    files = {"set/lego/a.txt": b"1", "set/b.txt": b"22", "set/.DS_Store": b"3", "__MACOSX/set/b.txt": b"4"}
    extract(pack(tmp_path / "a", files), tmp_path / "out", GIGABYTE)
    assert {str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*")} == {
        "lego",
        "lego/a.txt",
        "b.txt",
    }
    assert (tmp_path / "out/b.txt").read_bytes() == b"22"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "out"]


@pytest.mark.parametrize("pack", [zipped, tarred])
@pytest.mark.parametrize("name", ["../a", "b/../../a", "/etc/a", "c\\..\\a", "C:a"])
def test_paths_that_leave_the_folder(tmp_path: Path, pack: Any, name: str) -> None:
    archive = pack(tmp_path / "pack", {"good": b"1", name: b"2"})
    with pytest.raises(UserError, match="would leave the folder"):
        extract(archive, tmp_path / "inner/out", GIGABYTE)
    assert leftovers(tmp_path) == ["pack"]


def test_links_and_devices(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/passwd"
        with pytest.raises(UserError, match="'link', a link or device"):
            extract(tarred(tmp_path / "pack", {"good": b"1"}, entry), tmp_path / "out", GIGABYTE)
    with zipfile.ZipFile(tmp_path / "pack", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UserError, match="'link', a link or device"):
        extract(tmp_path / "pack", tmp_path / "out", GIGABYTE)
    assert leftovers(tmp_path) == ["pack"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_archives_that_unpack_to_too_much(tmp_path: Path, pack: Any) -> None:
    archive = pack(tmp_path / "pack", {f"{i}": bytes(10**6) for i in range(3)})
    assert archive.stat().st_size < 20_000
    with pytest.raises(UserError, match=r"unpacks to more than 0\.002 GB"):
        extract(archive, tmp_path / "out", 2 * 10**6)


def test_broken_archives(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "pack", {"a": np.random.default_rng(0).bytes(1000)})
    content = bytearray(archive.read_bytes())
    content[500] ^= 1
    archive.write_bytes(bytes(content))
    with pytest.raises(UserError, match="broken or not supported"):
        extract(archive, tmp_path / "out", GIGABYTE)
    archive.write_bytes(b"hello")
    with pytest.raises(UserError, match="neither a zip nor a tar file"):
        extract(archive, tmp_path / "out", GIGABYTE)
    assert leftovers(tmp_path) == ["pack"]


def test_a_name_that_comes_twice(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pack", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", "1")
        archive.writestr("a", "2")
    with pytest.raises(UserError, match="holds 'a' twice"):
        extract(tmp_path / "pack", tmp_path / "out", GIGABYTE)


# --- the command ---


def test_command(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    synthetic(tmp_path / "source/nerf/cup")
    files = {
        str(p.relative_to(tmp_path / "source")): p.read_bytes() for p in (tmp_path / "source").rglob("*") if p.is_file()
    }
    server.content = zipped(tmp_path / "pack", files).read_bytes()
    output = tmp_path / "data/set"
    words = ["data", "download", "nerf-synthetic", "--url", server.url, "--output", str(output)]
    assert main([*words, "--sha256", "abc"]) == 2
    assert "expected 64 hexadecimal digits" in capsys.readouterr().err
    assert main([*words, "--sha256", "0" * 64]) == 2
    assert server.requests == [None] and not output.exists()
    capsys.readouterr()
    assert main([*words, "--sha256", sha256(server.content)]) == 0
    printed = capsys.readouterr().out
    assert f"SHA-256 {sha256(server.content)}, as expected\n" in printed and f"  {output / 'cup'}\n" in printed
    assert sorted(p.name for p in output.parent.iterdir()) == ["set", "set.sha256"]
    assert main([*words, "--no-verify"]) == 2
    assert "exists" in capsys.readouterr().err


def test_the_first_download_decides_what_later_ones_must_be(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    output, kept, first = tmp_path / "tiny", tmp_path / "tiny.sha256", sha256(server.content)
    words = ["data", "download", "tiny-nerf", "--url", server.url, "--output", str(output)]
    assert main(words) == 0
    assert f"SHA-256 {first}, not verified; kept in {kept}" in capsys.readouterr().out
    assert kept.read_text() == f"{first}  {server.url}\n"
    shutil.rmtree(output)
    assert main(words) == 0
    assert f"SHA-256 {first}, as expected" in capsys.readouterr().out
    shutil.rmtree(output)
    server.content, server.etag = server.content[::-1], '"2"'
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"the SHA-256 is {sha256(server.content)}, expected {first}" in error and error.count("\n") == 1
    assert leftovers(tmp_path) == ["tiny.sha256"] and kept.read_text().startswith(first)
    assert main([*words, "--no-verify"]) == 0
    assert kept.read_text().startswith(sha256(server.content))
    shutil.rmtree(output)
    kept.write_text("hello")
    assert main(words) == 2
    assert "tiny.sha256: expected a SHA-256; remove the file" in capsys.readouterr().err and not output.exists()


def test_command_keeps_a_single_file_under_its_name(
    tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "tiny"
    words = ["data", "download", "tiny-nerf", "--url", server.url, "--output", str(output), "--no-verify"]
    assert main(words) == 0
    assert (output / "tiny_nerf_data.npz").read_bytes() == server.content
    assert "not verified" in capsys.readouterr().out


def test_command_lists_and_suggests_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "download"]) == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in PUBLIC_SETS)
    assert main(["data", "download", "nerf-synthetik"]) == 2
    assert "did you mean 'nerf-synthetic'" in capsys.readouterr().err


def test_the_table_is_complete() -> None:
    for name, public in PUBLIC_SETS.items():
        assert public.url.startswith("https://") and public.page.startswith("https://") and public.about, name
        assert public.sha256 is None or len(public.sha256) == 64
