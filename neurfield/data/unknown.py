# SPDX-License-Identifier: Apache-2.0
"""What a path that no reader knows may be, and what to do about it: words for an error message."""

import shlex
from collections.abc import Callable
from pathlib import Path

from neurfield.data.capture.photos import SUFFIXES

# As phones, cameras and scanners write pictures; they are not read here.
_FOREIGN = (".heic", ".heif", ".avif", ".bmp", ".gif", ".dng", ".nef", ".cr2", ".cr3", ".arw")
# Files of poses that are not read here: where they lie in the data folder, whose they look like, and what makes a model
# of COLMAP or a transforms.json of them.
_POSES = (
    ("bundle.out", "Bundler", "an import into COLMAP"),
    ("*.csv", "RealityCapture", "its export for COLMAP, or ns-process-data realitycapture of nerfstudio"),
)
# Pictures beside them.
_PHOTOS = (".", "images", "keyframes/corrected_images", "keyframes/images", "rgb")
_ARCHIVES = (".zip", ".r3d", ".tar", ".gz", ".tgz", ".7z", ".rar")
_MESHES = (".glb", ".gltf", ".fbx", ".usdz", ".dae", ".blend", ".3ds")


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
    return (
        f"pictures are read as PNG, JPEG, WebP, TIFF, EXR or HDR; convert it, with ImageMagick for example: {command}"
    )


def _advice(path: Path, is_data_set: Callable[[Path], bool]) -> str | None:
    if path.is_file():
        if path.suffix.lower() in _MESHES:
            return "meshes are read as OBJ, PLY, STL or OFF; export it as one of these"
        if path.suffix.lower() in _ARCHIVES:
            return "an archive: unpack it (a .r3d is a .zip) and name the folder"
        return foreign_picture(path)
    inner = next((child for child in sorted(path.iterdir()) if _may_be_meant(child) and is_data_set(child)), None)
    whole = path.resolve().parent
    meant = inner or (whole if is_data_set(whole) else None)
    if meant is not None:
        return f"did you mean {meant}?"
    for folder in (path / name for name in _PHOTOS):
        n_photos = sum(child.suffix.lower() in SUFFIXES for child in _files(folder))
        if n_photos:
            photos = path if folder in (path, path / "images") else folder
            command = f"neurfield process {shlex.quote(str(photos))}"
            return f"{n_photos} pictures in {folder}, {_poses(path)} with {command}"
    return None


def _poses(path: Path) -> str:
    """Whether anything says where the pictures of a folder were taken from."""
    for pattern, whose, source in _POSES:
        found = next(path.glob(pattern), None)
        if found is not None:
            name = found.relative_to(path).as_posix()
            return (
                f"and what looks like poses of {whose} ({name}), which are not read: take {source}, or find them anew"
            )
    return "but nothing that says where each was taken from; find that out"


def _may_be_meant(child: Path) -> bool:
    return child.is_dir() or child.suffix.lower() == ".npz"


def _files(folder: Path) -> list[Path]:
    return [child for child in folder.iterdir() if child.is_file()] if folder.is_dir() else []
