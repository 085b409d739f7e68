# SPDX-License-Identifier: Apache-2.0
"""Photos as cameras and phones write them become upright PNG and JPEG files, which every tool reads alike.

An upright PNG or JPEG is copied byte by byte. What is stored turned (EXIF) or is of another kind (WebP, TIFF, BMP,
HEIC) is decoded and written again, as PNG where nothing was lost before and else as JPEG, with its EXIF.
"""

import io
import math
import os
import re
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from neurfield.data import tiff
from neurfield.data.image_files import (
    BROKEN,
    EXIF_ORIENTATION,
    FORMATS,
    check_megapixels,
    in_threads,
    read_header,
    read_pixels,
)
from neurfield.errors import UserError, retold
from neurfield.progress import Progress

# Suffix: whether its pictures were compressed with loss, so that a JPEG keeps what there is.
SUFFIXES = {
    ".jpg": True, ".jpeg": True, ".png": False, ".webp": True, ".tif": False, ".tiff": False, ".bmp": False,
    ".heic": True, ".heif": True,
}  # fmt: skip
_KEPT = (".jpg", ".jpeg", ".png")
_COPIED = ("PNG", "JPEG", "MPO")  # Pillow's names of what COLMAP reads, too; MPO is a JPEG with more behind it
_HEIC = (".heic", ".heif")
_JPEG: dict[str, Any] = {"quality": 95, "subsampling": 0}
_MOST_EXIF = 65533  # bytes in a JPEG
# EXIF: the body, and in its own directory focal length, the same for 35 mm film, lens, zoom by software.
_BODY_TAGS = (0x010F, 0x0110)
_EXIF_DIRECTORY = 0x8769
_LENS_TAGS = (0x920A, 0xA405, 0xA434, 0xA404)


@dataclass(frozen=True)
class Photo:
    """A picture in the folder of a data set.

    Attributes:
        name: of the file there.
        size: width and height.
        lens: what its EXIF says of body, lens and zoom; photos with equal ones share a camera.
        has_mask: `NAME.png` lies among the masks.
    """

    name: str
    size: tuple[int, int]
    lens: tuple[str, ...] = ()
    has_mask: bool = False


def find(folder: Path) -> tuple[Path, list[Path]]:
    """The folder with the photos, `folder` itself or its `images/`, and its photos by name.

    Raises:
        UserError: there are none.
    """
    for place in (folder, folder / "images"):
        if place.is_dir():
            found = sorted(path for path in place.iterdir() if _is_photo(path))
            if found:
                return place, found
    deeper = _counts_below(folder)
    most = max(deeper, key=lambda place: deeper[place], default=folder)
    hint = f", as {most} with {deeper[most]}" if deeper.get(most) else ""
    raise UserError(
        f"{folder}: no photos in it or in its folder images (read are {', '.join(SUFFIXES)}); give the folder that "
        f"holds them{hint}, or a video"
    )


def left_out(folder: Path) -> dict[str, int]:
    """How many photos lie in each folder below that of the photos, masks aside, which `prepare` does not read."""
    place, _ = find(folder)
    counts = {path.relative_to(place): n for path, n in _counts_below(place).items() if n}
    return {name.as_posix(): n for name, n in counts.items() if "masks" not in name.parts}


def _counts_below(folder: Path) -> dict[Path, int]:
    """Photos in each folder, two levels of them, as of a camera's card (DCIM/100MEDIA), that may be read."""
    below = sorted(path for depth in ("*", "*/*") for path in folder.glob(depth) if path.is_dir())
    return {path: sum(map(_is_photo, path.iterdir())) for path in below if os.access(path, os.R_OK)}


def _is_photo(path: Path) -> bool:
    """A file with the name of a photo, or a link to one that is gone, which is to be told; no folder, and no pipe."""
    if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
        return False
    return path.is_file() or not path.exists()


def prepare(folder: Path, images: Path, masks: Path, max_megapixels: float, progress: Progress) -> list[Photo]:
    """Writes the photos of `folder` into `images`, and masks for them (`folder/masks/NAME[.EXT].png`) into `masks`.

    Raises:
        UserError: no photos, a broken one, one beyond `max_megapixels`, HEIC without the module that reads it, a mask
            of another size.
    """
    place, paths = find(folder)
    if any(path.suffix.lower() in _HEIC for path in paths):
        _learn_heic(next(path for path in paths if path.suffix.lower() in _HEIC))
    targets = _targets(paths, max_megapixels)
    lock, n_done = threading.Lock(), 0

    def one(path: Path) -> Photo:
        nonlocal n_done
        photo = _write(path, images / targets[path], max_megapixels)
        mask = _mask_of(path, (folder / "masks", place / "masks"))
        if mask is not None:
            _write_mask(mask, photo, path, masks / f"{photo.name}.png", max_megapixels)
            photo = replace(photo, has_mask=True)
        with lock:
            n_done += 1
            progress(n_done / len(paths))
        return photo

    return in_threads(one, paths)


def write_jpeg(picture: np.ndarray, path: Path) -> None:
    """A picture `[height, width, 3]` uint8 as a JPEG in which nobody sees a loss."""
    _save(Image.fromarray(picture), path)


def shrink(images: Path, smaller: Path, names: Sequence[str], factor: int) -> None:
    """Writes the photos in `images` `factor` times smaller, by the mean of their pixels, into `smaller`."""

    def one(name: str) -> None:
        pixels = read_pixels(images / name, read_header(images / name, math.inf))
        _save(Image.fromarray(pixels).reduce(factor), smaller / name)

    in_threads(one, names)


def _save(image: Image.Image, target: Path, **options: Any) -> None:
    format, quality = ("PNG", {}) if target.suffix.lower() == ".png" else ("JPEG", _JPEG)
    data = io.BytesIO()  # Pillow does not notice when the last bytes of a JPEG find no room
    image.save(data, format=format, **quality, **options)
    target.write_bytes(data.getbuffer())


def _targets(paths: list[Path], max_megapixels: float) -> dict[Path, str]:
    """A name for each photo, of those that COLMAP can read in its lists; of two that would have the same, as
    IMG_1.HEIC and IMG_1.jpg, one is counted."""
    targets: dict[Path, str] = {}
    taken: set[str] = set()
    # first those that can keep their name
    for path in sorted(paths, key=lambda path: path.suffix.lower() not in _KEPT or path.name != _plain(path.name)):
        suffix = path.suffix if path.suffix.lower() in _KEPT else ".jpg" if _is_lossy(path, max_megapixels) else ".png"
        stem = name = _plain(path.stem)
        number = 1
        while f"{name}{suffix}".lower() in taken:
            number += 1
            name = f"{stem}_{number}"
        targets[path] = f"{name}{suffix}"
        taken.add(targets[path].lower())
    return targets


def _plain(name: str) -> str:
    """Without spaces, which end a name, `#` at its head, which makes a comment of it, and bytes that are no text."""
    return re.sub(r"^#|[\s\udc80-\udcff]+", "_", name)


def _is_lossy(path: Path, max_megapixels: float) -> bool:
    """Whether a JPEG keeps what is in a file: neither more than it has nor transparency."""
    if path.suffix.lower() != ".webp":
        return SUFFIXES[path.suffix.lower()]
    try:
        return read_header(path, max_megapixels).channels == 3
    except UserError:
        return True  # it is told of with all others that cannot be used


def _write(path: Path, target: Path, max_megapixels: float) -> Photo:
    # what is read here everywhere is decoded now, so that a broken photo is named, with the same words
    is_known = path.suffix.lower() in (*_KEPT, ".webp", *tiff.SUFFIXES)
    header = read_header(path, max_megapixels) if is_known else None
    if header is not None and header.is_float:
        raise UserError(f"{path}: the photo is of floats; export it with 8 or 16 bits a channel")
    pixels = None if header is None else read_pixels(path, header)
    try:
        with Image.open(path, formats=_formats(path)) as image:
            check_megapixels(f"{path}: the photo has", image.width, image.height, max_megapixels)
            lens = _lens(image)
            if image.format in _COPIED and image.getexif().get(EXIF_ORIENTATION) not in range(2, 9):
                shutil.copyfile(path, target)
                return Photo(target.name, image.size, lens)
            profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA") else None
            turned = image if pixels is not None else ImageOps.exif_transpose(image)
            upright = turned if pixels is None else Image.fromarray(pixels)
            is_clear = upright.has_transparency_data and target.suffix.lower() == ".png"
            upright = upright.convert("RGBA" if is_clear else "RGB")
            _save(upright, target, exif=_exif(turned), icc_profile=profile)
            return Photo(target.name, upright.size, lens)
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a picture of the kind that its name says, or its head is broken") from None
    except BROKEN as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk, not the picture
        raise retold(error, f"{path}: the photo is broken or truncated", "copy or export it again") from None


def _formats(path: Path) -> tuple[str, ...]:
    return {".tif": ("TIFF",), ".tiff": ("TIFF",), ".bmp": ("BMP",), ".heic": ("HEIF",), ".heif": ("HEIF",)}.get(
        path.suffix.lower(), FORMATS
    )


def _exif(image: Image.Image) -> bytes:
    """Its EXIF without the orientation; none where it is broken, or too long for a JPEG: the picture is whole."""
    exif = image.getexif()
    exif.pop(EXIF_ORIENTATION, None)
    if image.format == "TIFF":  # whose other tags say how it is stored
        for tag in set(exif) - {*_BODY_TAGS, _EXIF_DIRECTORY}:
            del exif[tag]
    try:
        data = exif.tobytes()
    except BROKEN:
        return b""
    return data if len(data) <= _MOST_EXIF else b""


def _lens(image: Image.Image) -> tuple[str, ...]:
    exif = image.getexif()
    directory = exif.get_ifd(_EXIF_DIRECTORY)
    return tuple(str(exif.get(tag, "")) for tag in _BODY_TAGS) + tuple(
        str(directory.get(tag, "")) for tag in _LENS_TAGS
    )


def _mask_of(photo: Path, folders: tuple[Path, ...]) -> Path | None:
    names = (f"{photo.name}.png", f"{photo.stem}.png")
    return next((folder / name for folder in folders for name in names if (folder / name).is_file()), None)


def _write_mask(mask: Path, photo: Photo, source: Path, target: Path, max_megapixels: float) -> None:
    """The mask of an upright photo: itself upright, or as its photo was stored."""
    header = read_header(mask, max_megapixels)
    kept = read_pixels(mask, header)[:, :, :3].any(axis=2)
    image = Image.fromarray((kept * 255).astype(np.uint8))
    if image.size != photo.size:
        with Image.open(source, formats=_formats(source)) as original:
            orientation = original.getexif().get(EXIF_ORIENTATION, 1)
            as_stored = original.size
        if image.size == as_stored:
            image.getexif()[EXIF_ORIENTATION] = orientation
            image = ImageOps.exif_transpose(image)
    if image.size != photo.size:
        raise UserError(
            f"{mask}: the mask has {kept.shape[1]} x {kept.shape[0]} pixels, its photo {photo.size[0]} x "
            f"{photo.size[1]}; export it again"
        )
    target.parent.mkdir(exist_ok=True)
    image.save(target)


def _learn_heic(path: Path) -> None:
    try:
        import pi_heif
    except ImportError:
        raise UserError(
            f"{path}: HEIC photos need pi-heif; pip install 'neurfield[photos]', or export them as JPEG"
        ) from None
    pi_heif.register_heif_opener()
