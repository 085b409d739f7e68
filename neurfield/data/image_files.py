# SPDX-License-Identifier: Apache-2.0
"""Image files: what their headers say, and their pixels.

PNG, JPEG, WebP and TIFF become uint8 sRGB with straight alpha, EXR and TIFF with floats become float32 linear.
Headers are read first, for all files, so that wrong sizes, foreign files and decompression bombs are refused before a
pixel is decoded. Grey and palettes become RGB(A); 16 bits (sRGB encoded, as written by renderers) are rounded to 8,
which is finer than what views of one scene agree to; colour profiles are not applied.
"""

import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from neurfield.checks import few
from neurfield.data import exr, tiff
from neurfield.data.ffmpeg import opened
from neurfield.data.orientation import turned
from neurfield.data.pillow import colors_of
from neurfield.errors import UserError, retold
from neurfield.files import unreadable
from neurfield.progress import Progress, silent

T = TypeVar("T")
R = TypeVar("R")

FORMATS = ("PNG", "JPEG", "WEBP")
EXIF_ORIENTATION = 0x0112
BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    zlib.error,
    IndexError,
    KeyError,
    TypeError,  # Pillow's, and the next: a value is of another type than its tag says
    AttributeError,
    Image.DecompressionBombError,
)
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_END = b"IEND\xae\x42\x60\x82"
JPEG_END = b"\xff\xd9"


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image before it is decoded.

    Attributes:
        width, height: of the stored pixels, before the EXIF orientation is applied.
        channels: 3 or 4, as it will be decoded.
        is_float: linear, of EXR or TIFF.
        is_16_bit: will be rounded to 8.
        orientation: of EXIF, 1 ... 8; 1 is upright.
    """

    width: int
    height: int
    channels: int
    is_float: bool = False
    is_16_bit: bool = False
    orientation: int = 1

    @property
    def upright(self) -> tuple[int, int]:
        """Width and height once the EXIF orientation is applied."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def pixel_bytes(self) -> int:
        return self.channels * (4 if self.is_float else 1)


def n_threads() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_threads(function: Callable[[T], R], items: Iterable[T], progress: Progress = silent) -> list[R]:
    """Maps over files on one thread per core, results in order; Pillow and zlib leave Python's lock while they decode.

    All threads have ended when this returns or raises (a generator here could be collected, and joined, by its own
    worker).

    Args:
        progress: called here with the finished part, in the order of the items.

    Raises:
        UserError: that of the first file that cannot be used, with the names of all others of that sort, so that nobody
            mends them one by one.
    """

    def tried(item: T) -> R | UserError:
        try:
            return function(item)
        except UserError as error:
            return error

    items, found = list(items), []
    with _NO_LIMIT_OF_PILLOW, ThreadPoolExecutor(n_threads()) as pool:
        for result in pool.map(tried, items):
            found.append(result)
            progress(len(found) / len(items))
    refused = [str(result) for result in found if isinstance(result, UserError)]
    if refused:  # a mask may be that of many photos
        _, *others = dict.fromkeys(message.partition(": ")[0] for message in refused)
        raise UserError(refused[0] + (f"; {len(others)} more cannot be used: {few(others)}" if others else ""))
    return [result for result in found if not isinstance(result, UserError)]


class _NoLimitOfPillow:
    """Pillow's own size limit, one for the process, is lifted while anybody is in here.

    Ours is checked before, per file, and can be raised by the caller.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._limit: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            if self._n_inside == 0:
                self._limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
            self._n_inside += 1

    def __exit__(self, *exception: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                Image.MAX_IMAGE_PIXELS = self._limit


_NO_LIMIT_OF_PILLOW = _NoLimitOfPillow()


def read_header(path: Path, max_megapixels: float) -> ImageHeader:
    """Size and kind of an image file, without decoding it, unless its end is missing.

    Raises:
        UserError: unreadable, truncated, no image of a known kind, or larger than `max_megapixels`.
    """
    if path.suffix.lower() == ".exr":
        width, height, channels, n_pixels = exr.size_and_channels(path)
        header = ImageHeader(width, height, channels, is_float=True)
    elif _is_tiff(path):
        with _told(path):
            found = tiff.layout(path)
        header = ImageHeader(
            found.width, found.height, found.channels, found.bits == 32, found.bits == 16, found.orientation
        )
        n_pixels = found.n_pixels
    else:
        with _opened(path) as image:
            header = ImageHeader(
                image.width,
                image.height,
                4 if image.has_transparency_data else 3,
                is_16_bit=_png_bits(path) == 16,
                orientation=_orientation(image),
            )
        n_pixels = 0
    if min(header.width, header.height) < 1:
        raise UserError(f"{path}: the image has no pixels ({header.width} x {header.height})")
    check_megapixels(f"{path}: the image has", header.width, header.height, max_megapixels, n_pixels)
    if not header.is_float and not _is_tiff(path) and not _has_end(path):
        read_pixels(path, header)  # only decoding tells a truncated file from one with something behind the picture
    return header


def check_megapixels(what: str, width: int, height: int, max_megapixels: float, n_decoded: int = 0) -> None:
    """Raises UserError, with `what` as its beginning, for a picture, or `n_decoded` pixels, beyond `max_megapixels`."""
    n_pixels = max(width * height, n_decoded)
    if n_pixels > max_megapixels * 1e6:
        raise UserError(
            f"{what} {n_pixels / 1e6:.1f} megapixels ({width} x {height}), more than the {max_megapixels:g} allowed; "
            "raise --max-megapixels if it is meant"
        )


def read_pixels(path: Path, header: ImageHeader, upright: bool = True) -> np.ndarray:
    """`[height, width, 3 or 4]` uint8 or, of floats, float32.

    Args:
        path: the file.
        header: of `read_header`; the pixels must still have its size.
        upright: apply the EXIF orientation.

    Raises:
        UserError: the file is truncated, broken, or no longer what its header said.
    """
    pixels = _stored(path, header)
    if header.is_16_bit:
        pixels = _rounded_to_8_bits(pixels)
    return turned(pixels, header.orientation) if upright and header.orientation != 1 else pixels


def deep_pixels(path: Path, header: ImageHeader, with_gaps: bool = False) -> np.ndarray:
    """Like `read_pixels`, upright, but 16-bit images stay uint16; `with_gaps` floats of a TIFF need not be finite."""
    return turned(_stored(path, header, with_gaps), header.orientation)


def read_mask(path: Path, max_megapixels: float) -> np.ndarray:
    """`[height, width]` bool, true where any colour channel is not zero (alpha does not count).

    Raises:
        UserError: as `read_header` and `read_pixels`.
    """
    header = read_header(path, max_megapixels)
    return np.asarray(read_pixels(path, header)[:, :, :3].any(axis=2))


def _stored(path: Path, header: ImageHeader, with_gaps: bool = False) -> np.ndarray:
    """The pixels as they lie in the file: uint8, uint16 if `header.is_16_bit`, or float32."""
    if header.is_float and not _is_tiff(path):
        pixels = exr.read(path)
    else:
        with _told(path):
            pixels = tiff.read(path, tiff.layout(path), with_gaps) if _is_tiff(path) else _by_pillow(path, header)
    if pixels.shape != (header.height, header.width, header.channels):
        raise UserError(f"{path}: the image changed while it was read")
    return pixels


def _by_pillow(path: Path, header: ImageHeader) -> np.ndarray:
    with _opened(path) as image:
        if header.is_16_bit:
            return _pixels_of_16_bits(path, image, header.channels)
        return colors_of(image, header.channels)


def _is_tiff(path: Path) -> bool:
    """By suffix: many raw photos are TIFF files whose first page is a small picture."""
    return path.suffix.lower() in tiff.SUFFIXES


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The opened, not yet decoded file; errors inside the block are told as those of a broken image."""
    with _told(path), Image.open(path, formats=FORMATS) as image:
        yield image


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors inside the block are told as those of a broken image; our limit counts in it, not Pillow's."""
    try:
        with _NO_LIMIT_OF_PILLOW:
            yield
    except UnidentifiedImageError:
        raise UserError(
            f"{path}: not an image of a kind that is read here (PNG, JPEG, WebP, TIFF, EXR), or its head is broken; "
            "export it again as one of these"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such image") from None
    except PermissionError:
        raise unreadable(path) from None
    except BROKEN as error:
        raise retold(error, f"{path}: the image is broken or truncated", "copy or export it again") from None


def _has_end(path: Path) -> bool:
    """Whether a PNG, JPEG or WebP file ends as it should: a test view that is cut off is noticed before training."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(max(size - 8, 0))
        tail = file.read()
    if head == PNG_SIGNATURE:
        return tail == PNG_END
    return tail[-2:] == JPEG_END or (head[:4] == b"RIFF" and int.from_bytes(head[4:], "little") + 8 <= size)


def _orientation(image: Image.Image) -> int:
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # Pillow would decode the whole image to look behind the pixels
    value = image.getexif().get(EXIF_ORIENTATION, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _png_bits(path: Path) -> int:
    """Bits per channel of a PNG from its first chunk, 8 for other files."""
    with path.open("rb") as file:
        head = file.read(26)
    return head[24] if head[:8] == PNG_SIGNATURE and len(head) == 26 else 8


def _pixels_of_16_bits(path: Path, image: Image.Image, channels: int) -> np.ndarray:
    """`[height, width, channels]` uint16 of a 16-bit PNG: Pillow keeps 16 bits for grey only, colours lose a byte."""
    if image.mode.startswith("I"):
        grey = np.asarray(image).astype(np.uint16)
        return np.stack([grey] * 3 + [np.full_like(grey, 65535)] * (channels - 3), axis=2)
    import av

    try:
        with opened(path, "png_pipe", image.width * image.height / 1e6) as container:
            (frame,) = container.decode(video=0)
    except av.error.FFmpegError:
        raise ValueError("its 16-bit colours cannot be decoded") from None
    return frame.to_ndarray(format="rgba64le" if channels == 4 else "rgb48le")


def _rounded_to_8_bits(wide: np.ndarray) -> np.ndarray:
    return ((wide.astype(np.uint32) + 128) // 257).astype(np.uint8)
