# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all, whatever happens while they are written."""

import contextlib
import io
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from neurfield.errors import MachineError, UserError, is_out_of_memory
from neurfield.memory import readable

if TYPE_CHECKING:
    import numpy as np

try:
    import fcntl
except ImportError:  # Windows: folders are not locked, and what a kill leaves stays
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix in small letters, for a writer that wants a path; renamed at
    the end. Of a link the file that it leads to is made: links stay.

    Raises:
        UserError, MachineError: see cannot_write; the old file is as it was and no temporary file is left.
    """
    target = Path(os.path.realpath(path)) if path.is_symlink() else path  # resolve() does not bear circles
    temporary = target.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix.lower()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    except MachineError as error:  # of a writer that knows the temporary name alone
        raise MachineError(str(error).replace(temporary.name, path.name)) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file, open for writing, that appears under `path` complete or not at all; raises as atomic_path does."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()


def write_together(contents: Sequence[tuple[Path, bytes]]) -> None:
    """Writes files that name each other: each takes its place when all are on the disk, the first one last.

    Raises:
        UserError, MachineError: see cannot_write; the old files are as they were, unless a rename fails.
    """
    with contextlib.ExitStack() as renamed_backwards:
        for path, content in contents:
            file = renamed_backwards.enter_context(atomic_write(path))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place at the end; what was there before is removed last.

    Both are locked: one without a lock was left by a process that was killed, and is removed by the next for `path`,
    an old one not before there is something new in its place, as it may be all that there was.

    Raises:
        UserError, MachineError: see cannot_write; the old folder is as it was.
    """
    path = path.resolve()  # "." has no name
    new, temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{use}") for use in ("new", "tmp", "old"))
    locks: list[int | None] = []
    try:
        new.mkdir(parents=True, exist_ok=True)
        _remove_left(path, "tmp")
        locks.append(_locked(new))
        new.rename(temporary)  # nobody sees it unlocked under the name by which it may be removed
        yield temporary
        if path.is_dir():
            locks.append(_locked(path))
            os.replace(path, old)
        try:
            os.replace(temporary, path)
        except OSError:
            if old.is_dir():
                os.replace(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
        _remove_left(path, "old")
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        for folder in (new, temporary):
            shutil.rmtree(folder, ignore_errors=True)
        for lock in locks:
            if lock is not None:
                os.close(lock)


def _locked(folder: Path) -> int | None:
    """A descriptor that holds `folder` until it is closed or the process ends; None: another one does, or it cannot."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # also of a file system without locks
        os.close(descriptor)
        return None
    return descriptor


def _remove_left(path: Path, use: str) -> None:
    """Removes what atomic_folder left beside `path` for a use where its process was killed."""
    children: list[Path] = []
    with contextlib.suppress(OSError):  # a folder that may be written to, but not read
        children += path.parent.iterdir()
    for child in children:
        if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.{use}", child.name) and child.is_dir():
            with contextlib.suppress(OSError):  # a folder of another user, or one that another process just removed
                lock = _locked(child)
                if lock is not None:
                    shutil.rmtree(child, ignore_errors=True)
                    os.close(lock)


def refuse_existing(path: Path, overwrite: bool, marker: str | None = None) -> None:
    """Raises UserError when `path` cannot be made, or exists and may not be replaced.

    Args:
        path: file or folder to be made.
        overwrite: the user allows to replace it.
        marker: None for a file. For a folder, the file that tells one that this program made: no other folder is
            replaced, unless it is empty.
    """
    place = next((folder for folder in path.absolute().parents if folder.exists()), path)  # "/" has no parent
    if not (place.is_dir() and os.access(place, os.W_OK)):
        what = "may not be written" if place.is_dir() else "is a file"
        raise UserError(f"{path}: {place} {what}; choose another --output")
    if not path.exists():
        return
    if not path.is_dir() and not path.is_file():  # a file in its place would take it from all programs
        raise UserError(f"{path} is a device or a pipe, no file; choose another --output")
    if path.is_dir() != (marker is not None):
        raise UserError(f"{path} is a {'folder' if path.is_dir() else 'file'}; choose another --output")
    if marker is not None:
        if not any(path.iterdir()):
            return
        if Path.cwd().is_relative_to(path.resolve()) or not (path / marker).is_file():
            reason = f"holds no {marker}, so it is not replaced" if not (path / marker).is_file() else "is in use"
            raise UserError(f"{path} exists and {reason}; choose another --output")
    if not overwrite:
        raise UserError(
            f"{path} exists; choose another --output, or --overwrite to replace it (overwrite=True in Python)"
        )


def unreadable(path: Path) -> UserError:
    """The one line for what the user may not read."""
    return UserError(f"{path}: may not be read; give yourself the permission: chmod u+rX")


def check_readable(path: Path) -> None:
    """Raises UserError when a file or folder may not be read, or a folder on the way to it not be entered.

    Of what is not there the caller tells: to look for it gives the same answer as for what is hidden in such a folder.
    """
    for place in (*reversed(path.absolute().parents), path):
        if not os.path.exists(place):  # false, not an error, for names that no file can have
            return
        if not os.access(place, (os.R_OK if place is path else 0) | (os.X_OK if place.is_dir() else 0)):
            raise unreadable(place)


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """What a file holds, whoever wrote it.

    Raises:
        UserError: more than `max_bytes`, or it cannot be read.
    """
    try:
        if (size := path.stat().st_size) > max_bytes:
            raise UserError(f"{path}: {readable(size)} are too much, {readable(max_bytes)} are read at most")
        return path.read_bytes()
    except PermissionError:
        raise unreadable(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot read the file ({error.strerror or type(error).__name__})") from None


def save_array(path: Path, values: "np.ndarray") -> None:
    """A .npy file; raises OSError where it finds no room, of which `numpy.save` to a path does not notice the end."""
    import numpy as np  # the command line's help does not wait for it

    data = io.BytesIO()
    np.save(data, values)
    path.write_bytes(data.getbuffer())


def append(path: Path, data: bytes) -> None:
    """Adds to the end of a file, all or nothing; raises as cannot_write says."""
    try:
        with open(path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(size)
                raise
    except OSError as error:
        raise cannot_write(path, error) from None


def cannot_write(path: Path, error: OSError, option: str = "--output") -> UserError | MachineError:
    """The one line for a place that is none, or a disk that refuses; memory that runs out is no fault of either."""
    if is_out_of_memory(error):
        return MachineError(f"{path}: not written, out of memory; nothing was changed")
    reason = f"{path}: cannot write ({(error.strerror or str(error)).lower()})"
    if isinstance(error, FileExistsError | NotADirectoryError | IsADirectoryError | PermissionError):
        return UserError(f"{reason}; choose another {option}")
    return MachineError(f"{reason}; nothing was changed")


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` durable, where the system has folders that can be opened."""
    with contextlib.suppress(PermissionError):  # Windows
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
