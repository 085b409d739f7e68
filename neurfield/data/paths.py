# SPDX-License-Identifier: Apache-2.0
"""Names in data files become files inside the data folder, and nowhere else."""

from pathlib import Path, PurePosixPath
from unicodedata import normalize

from neurfield.checks import shown
from neurfield.errors import UserError
from neurfield.files import check_readable

# Tried in this order for names without a known suffix ("./train/r_0").
IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".exr", ".tif", ".tiff")
CAMERA_FILES = ("cameras_sphere.npz", "cameras.npz")  # archives of the format `idr`, beside photos


def resolve(root: Path, name: object, where: str, allow_outside: bool = False) -> Path:
    """The file that `name` means below `root`, which must already be resolved; it need not exist.

    Raises:
        UserError: no text, a name that no file can have, or a path that leaves the folder (absolute, `..`, a link),
            unless `allow_outside`.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise UserError(f"{where}: expected a path, got {shown(name)}")
    path = root / name.replace("\\", "/")
    if allow_outside:
        return path
    # Links count as leaving even if what they point at is missing: resolve() follows what exists and keeps the rest.
    try:
        is_inside = path.resolve().is_relative_to(root)
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle, bytes that are no text
        raise UserError(f"{where}: the path {shown(name)} leads nowhere; correct it") from None
    if not is_inside:
        raise UserError(
            f"{where}: the path {name!r} leaves the data folder {root}; put the file inside, or pass --allow-outside"
        )
    return path


def is_file(path: Path, where: str) -> bool:
    """Whether a file is there.

    Raises:
        UserError: the system refuses to look (a name too long, a folder that may not be entered).
    """
    try:
        return path.is_file()
    except OSError as error:
        check_readable(path)
        reason = (error.strerror or str(error)).lower()
        raise UserError(f"{where}: cannot look for the file {shown(str(path))} ({reason}); correct the path") from None


def find_image(root: Path, name: object, where: str, allow_outside: bool = False) -> Path | None:
    """The existing file that `name` means, or that with the suffix of an image; None when there is none.

    Raises:
        UserError: as `resolve`.
    """
    resolve(root, name, where, allow_outside)
    # An umlaut is one character or two, and macOS, which takes both for the same, makes two of one.
    for composed in dict.fromkeys((str(name), *(normalize(form, str(name)) for form in ("NFC", "NFD")))):
        for suffix in ("", *IMAGE_SUFFIXES, *map(str.upper, IMAGE_SUFFIXES)):
            path = root / f"{composed}{suffix}".replace("\\", "/")
            if is_file(path, where):
                return resolve(root, f"{composed}{suffix}", where, allow_outside)
    return None


def data_name(path: Path) -> str:
    """What a data set is called: its folder, or its archive, if that is more than its cameras, without the suffix."""
    if path.suffix.lower() == ".npz" and path.is_file() and path.name not in CAMERA_FILES:
        return path.stem
    return (path.parent if path.is_file() else path).resolve().name


def same_name(name: str) -> str:
    """One spelling for `images/a.png`, `./images/a.png` and `images\\a.png`."""
    return str(PurePosixPath(name.replace("\\", "/")))
