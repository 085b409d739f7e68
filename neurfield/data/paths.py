# SPDX-License-Identifier: Apache-2.0
"""Names in data files become files inside the data folder, and nowhere else."""

from pathlib import Path, PurePosixPath

from neurfield.errors import UserError

# Tried in this order for names without a known suffix ("./train/r_0").
IMAGE_SUFFIXES = (".png", ".webp", ".jpg", ".jpeg", ".exr")


def resolve(root: Path, name: object, where: str, allow_outside: bool = False) -> Path:
    """The file that `name` means below `root`, which must already be resolved; it need not exist.

    Raises:
        UserError: no text, or a path that leaves the folder (absolute, `..`, a link), unless `allow_outside`.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        raise UserError(f"{where}: expected a path, got {name!r}")
    path = root / name.replace("\\", "/")
    if allow_outside:
        return path
    # Links count as leaving even if what they point at is missing: resolve() follows what exists and keeps the rest.
    if not path.resolve().is_relative_to(root):
        raise UserError(
            f"{where}: the path {name!r} leaves the data folder {root}; put the file inside, or pass --allow-outside"
        )
    return path


def find_image(root: Path, name: object, where: str, allow_outside: bool = False) -> Path | None:
    """The existing file that `name` means, or that with the suffix of an image; None when there is none.

    Raises:
        UserError: as `resolve`.
    """
    exact = resolve(root, name, where, allow_outside)
    if exact.is_file():
        return exact
    for suffix in IMAGE_SUFFIXES:
        for spelled in (suffix, suffix.upper()):
            candidate = exact.with_name(exact.name + spelled)
            if candidate.is_file():
                return resolve(root, f"{name}{spelled}", where, allow_outside)
    return None


def same_name(name: str) -> str:
    """One spelling for `images/a.png`, `./images/a.png` and `images\\a.png`."""
    return str(PurePosixPath(name.replace("\\", "/")))
