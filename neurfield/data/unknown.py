# SPDX-License-Identifier: Apache-2.0
"""What a path that no reader knows may be, and what to do about it: words for an error message."""

import shlex
from collections.abc import Callable
from pathlib import Path

from neurfield.data.capture.photos import SUFFIXES

# As phones, cameras and scanners write pictures; they are not read here.
_FOREIGN = (".heic", ".heif", ".avif", ".tif", ".tiff", ".bmp", ".gif", ".dng", ".nef", ".cr2", ".cr3", ".arw")


def advice(path: Path, is_data_set: Callable[[Path], bool]) -> str | None:
    """A clause about `path`, or None if nothing about it is familiar."""
    try:
        return _advice(path, is_data_set)
    except OSError:  # a folder that may not be looked into is no advice
        return None


def foreign_picture(path: Path) -> str | None:
    """A clause about a picture of a kind that is not read, or None."""
    if path.suffix.lower() not in _FOREIGN:
        return None
    command = shlex.join(["magick", str(path), str(path.with_suffix(".png"))])
    return f"pictures are read as PNG, JPEG, WebP, EXR or HDR; convert it, with ImageMagick for example: {command}"


def _advice(path: Path, is_data_set: Callable[[Path], bool]) -> str | None:
    if path.is_file():
        return foreign_picture(path)
    inner = next((child for child in sorted(path.iterdir()) if _may_be_meant(child) and is_data_set(child)), None)
    if inner is not None:
        return f"did you mean {inner}?"
    for folder in (path, path / "images"):
        n_photos = sum(child.suffix.lower() in SUFFIXES for child in _files(folder))
        if n_photos:
            return (
                f"{n_photos} pictures in {folder}, but nothing that says where each was taken from; find that out with "
                f"neurfield process {shlex.quote(str(path))}"
            )
    return None


def _may_be_meant(child: Path) -> bool:
    return child.is_dir() or child.suffix.lower() == ".npz"


def _files(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_file()] if folder.is_dir() else []
