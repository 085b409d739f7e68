# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all, whatever happens while they are written."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from neurfield.errors import MachineError, UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary name beside `path`, with its suffix, for a writer that wants a path; renamed at the end.

    Raises:
        MachineError: the disk is full or cannot be written; the old file is as it was and no temporary file is left.
    """
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "r+b") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """A file, open for writing, that appears under `path` complete or not at all; raises as atomic_path does."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        yield file
        file.flush()


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place at the end; what was there before is removed then.

    Raises:
        MachineError: see atomic_path.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(temporary, path)
    except OSError as error:
        raise cannot_write(path, error) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Raises UserError when `path` exists and may not be replaced; an empty folder may."""
    is_empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not is_empty and not overwrite:
        raise UserError(f"{path} exists; choose another --output, or --overwrite to replace it")


def cannot_write(path: Path, error: OSError) -> MachineError:
    """The one line for a disk that refuses."""
    return MachineError(f"{path}: cannot write ({(error.strerror or str(error)).lower()}); nothing was changed")


def _sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` durable, where the system has folders that can be opened."""
    with contextlib.suppress(PermissionError):  # Windows
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
