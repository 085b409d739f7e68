# SPDX-License-Identifier: Apache-2.0
"""OpenEXR images: linear float32, straight alpha. The OpenEXR package is imported when the first such file is met.

EXR stores colours that are already multiplied by alpha; scenes hold straight alpha, so colours are divided here. A
camera sees the display window: pixels outside of it are dropped, missing ones are empty.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurfield.errors import UserError, retold

Window = tuple[tuple[int, int], tuple[int, int]]  # corner and size

COLOR = (("R", "G", "B"), ("Y", "Y", "Y"))
PLANE = ("Z", "V", "Y", "R")  # of depth: the standard's name, Blender's, ours, that of three alike


def size_and_channels(path: Path) -> tuple[int, int, int, int]:
    """Width, height, number of channels (3 or 4) and of pixels to decode, from the header alone."""
    with _reading(path, header_only=True) as file:
        header = file.header()
        names, (width, height, n_pixels) = {channel.name for channel in header["channels"]}, _sizes(header)
    _color_names(path, names)
    return width, height, 4 if "A" in names else 3, n_pixels


def read(path: Path) -> np.ndarray:
    """`[height, width, 3 or 4]` float32, linear, straight alpha."""
    with _reading(path, header_only=False) as file:
        header, channels = file.header(), file.channels()
        names = _color_names(path, set(channels)) + (("A",) if "A" in channels else ())
        pixels = np.stack([np.asarray(channels[name].pixels, dtype=np.float32) for name in names], axis=2)
        windows = _windows(header)
    if not np.isfinite(pixels).all():
        raise UserError(f"{path}: {int((~np.isfinite(pixels)).sum())} values of the image are NaN or infinite")
    pixels = _displayed(pixels, *windows)
    if pixels.shape[2] == 4:
        alpha = pixels[:, :, 3:]
        np.divide(pixels[:, :, :3], alpha, out=pixels[:, :, :3], where=alpha > 0)
        np.clip(alpha, 0, 1, out=alpha)
    return pixels


def plane_size(path: Path) -> tuple[int, int, int]:
    """Width, height and number of pixels to decode of a map of numbers, from the header alone."""
    with _reading(path, header_only=True) as file:
        return _sizes(file.header())


def read_plane(path: Path) -> np.ndarray:
    """`[height, width]` float32 of a map of numbers: the first of PLANE that is there, 0 where it has no pixels.

    Raises:
        UserError: none of them is; not a whole EXR image.
    """
    with _reading(path, header_only=False) as file:
        header, channels = file.header(), file.channels()
        name = next((name for name in PLANE if name in channels), None)
        if name is None:
            found = " ".join(sorted(channels))
            raise UserError(f"{path}: expected one of the channels {' '.join(PLANE)} in the first part, got {found}")
        plane = np.array(channels[name].pixels, dtype=np.float32)
        return _displayed(plane[:, :, None], *_windows(header))[:, :, 0]


def _windows(header: dict[str, Any]) -> tuple[Window, Window]:
    """What a camera sees, and what is stored."""
    return _window(header["displayWindow"]), _window(header["dataWindow"])


def _sizes(header: dict[str, Any]) -> tuple[int, int, int]:
    """Width and height of what a camera sees, and the number of pixels to decode for it."""
    (_, (width, height)), (_, (data_width, data_height)) = _windows(header)
    return width, height, max(width * height, data_width * data_height)


def _displayed(pixels: np.ndarray, seen: Window, stored: Window) -> np.ndarray:
    """What a camera sees of the stored pixels."""
    if stored == seen:
        return pixels
    (x, y), (width, height) = seen
    return _placed(pixels, stored[0][0] - x, stored[0][1] - y, width, height)


def _placed(pixels: np.ndarray, x: int, y: int, width: int, height: int) -> np.ndarray:
    """The part of `pixels`, whose corner is at (x, y), that lies in a canvas of `width` by `height`."""
    canvas = np.zeros((height, width, pixels.shape[2]), dtype=np.float32)
    h, w = pixels.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if left < right and top < bottom:
        canvas[top:bottom, left:right] = pixels[top - y : bottom - y, left - x : right - x]
    return canvas


def _window(box: Any) -> Window:
    """Corner and size of an EXR box, whose upper bound is inclusive."""
    low, high = (np.asarray(v, dtype=np.int64) for v in box)
    size = high - low + 1
    return (int(low[0]), int(low[1])), (int(size[0]), int(size[1]))


def _color_names(path: Path, names: set[str]) -> tuple[str, ...]:
    for wanted in COLOR:
        if names.issuperset(wanted):
            return wanted
    raise UserError(f"{path}: expected the channels R G B or Y in the first part, got {' '.join(sorted(names))}")


@contextmanager
def _reading(path: Path, header_only: bool) -> Iterator[Any]:
    """The opened file; the package raises RuntimeError, ValueError and others for broken ones, here they get a name."""
    try:
        import OpenEXR
    except ImportError:
        raise UserError(f"{path}: EXR images need the package OpenEXR: pip install OpenEXR") from None
    try:
        with OpenEXR.File(str(path), separate_channels=True, header_only=header_only) as file:
            yield file
    except Exception as error:
        raise retold(error, f"{path}: not a whole EXR image", "copy or render it again") from None
