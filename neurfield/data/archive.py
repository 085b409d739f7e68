# SPDX-License-Identifier: Apache-2.0
"""Unpacks archives that came from elsewhere: plain files and folders below one folder, up to a size, nothing else."""

import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from neurfield.errors import MachineError, UserError
from neurfield.progress import TextProgress, silent

MAX_MEMBERS = 1_000_000
CHUNK = 1 << 20
# What file managers leave in archives.
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")


@dataclass(frozen=True)
class Member:
    """A plain file of an archive, its place checked."""

    path: PurePosixPath
    size: int
    handle: Any


def extract(archive: Path, folder: Path, max_bytes: int, progress: TextProgress = silent) -> None:
    """Unpacks a zip or tar file into the new folder `folder`; one folder at the top of the archive is left out.

    The folder appears complete or not at all.

    Raises:
        UserError: no archive, a broken one, one that holds links, devices or paths outside, or more than `max_bytes`.
        MachineError: the disk is full or refuses.
    """
    partial = folder.with_name(f".{folder.name}.unpacking")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        with closing(_open(archive)) as opened:
            members = list(_members(archive, opened, max_bytes))
            _check_space(partial, sum(member.size for member in members))
            _write(archive, opened, members, partial, progress)
        entries = list(partial.iterdir())
        top = entries[0] if len(entries) == 1 and entries[0].is_dir() else partial
        os.replace(top, folder)
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive}: broken or not supported ({error}); download it again") from None
    except OSError as error:
        raise MachineError(f"cannot unpack to {folder}: {error.strerror or error}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _open(archive: Path) -> zipfile.ZipFile | tarfile.TarFile:
    if zipfile.is_zipfile(archive):
        return zipfile.ZipFile(archive)
    if tarfile.is_tarfile(archive):
        return tarfile.open(archive)
    raise UserError(f"{archive}: neither a zip nor a tar file")


def _members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile, max_bytes: int) -> Iterator[Member]:
    """The plain files; raises for anything that must not be unpacked."""
    total = 0
    for count, member in enumerate(_all_members(archive, opened)):
        total += member.size
        if total > max_bytes or count >= MAX_MEMBERS:
            raise UserError(
                f"{archive}: unpacks to more than {max_bytes / 1e9:g} GB or {MAX_MEMBERS} files; raise --max-gigabytes "
                "if it is meant"
            )
        if not any(part in JUNK for part in member.path.parts):
            yield member


def _all_members(archive: Path, opened: zipfile.ZipFile | tarfile.TarFile) -> Iterator[Member]:
    if isinstance(opened, zipfile.ZipFile):
        for info in opened.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise UserError(f"{archive}: holds {info.filename!r}, a link or device; only plain files are unpacked")
            path = _inside(archive, info.filename)
            if not info.is_dir():
                yield Member(path, info.file_size, info)
    else:
        for entry in opened:
            if not (entry.isreg() or entry.isdir()):
                raise UserError(f"{archive}: holds {entry.name!r}, a link or device; only plain files are unpacked")
            path = _inside(archive, entry.name)
            if entry.isreg():
                yield Member(path, entry.size, entry)


def _inside(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name or "\0" in name:
        raise UserError(f"{archive}: holds {name!r}, which would leave the folder; not unpacked")
    return path


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise MachineError(f"{folder.parent}: {needed / 1e9:.1f} GB are needed to unpack, {free / 1e9:.1f} GB are free")


def _write(
    archive: Path,
    opened: zipfile.ZipFile | tarfile.TarFile,
    members: list[Member],
    folder: Path,
    progress: TextProgress,
) -> None:
    total = max(sum(member.size for member in members), 1)
    done = 0
    for member in members:
        target = folder / member.path
        target.parent.mkdir(parents=True, exist_ok=True)
        source = (
            opened.open(member.handle) if isinstance(opened, zipfile.ZipFile) else opened.extractfile(member.handle)
        )
        if source is None:
            raise UserError(f"{archive}: {member.path} cannot be read")
        try:
            with source, target.open("xb") as file:
                written = _copy(source, file, member.size)
        except FileExistsError:
            raise UserError(f"{archive}: holds {str(member.path)!r} twice") from None
        if written != member.size:
            raise UserError(f"{archive}: {member.path} has not the {member.size} bytes that the archive announces")
        done += written
        progress(done / total, f"{done / 1e6:.0f} of {total / 1e6:.0f} MB")


def _copy(source: IO[bytes], target: IO[bytes], size: int) -> int:
    """Copies at most one byte more than announced, which is enough to notice a lie."""
    written = 0
    while chunk := source.read(min(CHUNK, size + 1 - written)):
        target.write(chunk)
        written += len(chunk)
    return written
