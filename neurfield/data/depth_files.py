# SPDX-License-Identifier: Apache-2.0
"""Depth maps beside the photos of a scene: one number per pixel in PNG, TIFF, EXR or .npy files, 0 where unknown.

A map may be coarser or finer than its photo, as those of phones are: every pixel takes the nearest number, since
numbers on both sides of an edge have no mean that is anywhere.
"""

from pathlib import Path

import numpy as np
from PIL import Image

from neurfield.data import exr
from neurfield.data.image_files import check_megapixels, deep_pixels, read_header
from neurfield.data.pillow import PNG_LEVEL
from neurfield.data.signals.arrays import open_array
from neurfield.errors import UserError

READING = 24  # bytes per pixel beside the map itself while one is read that is not larger than its photo
NOTHING = 1e10  # Blender's depth of a pixel that shows nothing


def read(path: Path, width: int, height: int, unit: float, max_megapixels: float) -> np.ndarray:
    """float32 `[height, width]`: the numbers of the file times `unit`, 0 where they are not known.

    That is where they are not above 0, or from NOTHING on, or not finite, or the largest of 16 bits, which stands for
    all that is farther away (write_thousandths) or, with many cameras, for nothing.

    Raises:
        UserError: unreadable or broken, no map of numbers, larger than `max_megapixels`, of other proportions than
            width and height.
    """
    values = _stored(path, max_megapixels)
    if abs(values.shape[1] * height - values.shape[0] * width) > max(values.shape) + max(width, height):
        raise UserError(
            f"{path}: the depth map has {values.shape[1]} x {values.shape[0]} pixels, other proportions than its "
            f"image of {width} x {height}"
        )
    rows, columns = (_nearest(n, m) for n, m in ((height, values.shape[0]), (width, values.shape[1])))
    numbers = values[np.ix_(rows, columns)].astype(np.float64)
    end = np.iinfo(np.uint16).max if values.dtype == np.uint16 else NOTHING
    numbers[~((numbers > 0) & (numbers < end))] = 0
    numbers *= unit
    with np.errstate(over="ignore"):
        depth = numbers.astype(np.float32)
    depth[np.isinf(depth)] = 0
    return depth


def _nearest(n: int, m: int) -> np.ndarray:
    """For the middles of `n` equal parts the number of that of `m` parts which they lie in."""
    return np.minimum((np.arange(n) * 2 + 1) * m // (2 * n), m - 1)


def _stored(path: Path, max_megapixels: float) -> np.ndarray:
    """`[height, width]` as in the file."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _array(path, max_megapixels)
    if suffix == ".exr":
        width, height, n_pixels = exr.plane_size(path)
        check_megapixels(f"{path}: the map has", width, height, max_megapixels, n_pixels)
        return exr.read_plane(path)
    header = read_header(path, max_megapixels)
    pixels = deep_pixels(path, header, with_gaps=True)
    if pixels.dtype == np.uint8:
        raise UserError(
            f"{path}: expected a depth map with 16 bits or floats, got 8 bits, as pictures in false colours have"
        )
    return np.asarray(pixels[:, :, 0])


def _array(path: Path, max_megapixels: float) -> np.ndarray:
    values = open_array(path)
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[:, :, 0]
    if values.ndim != 2 or 0 in values.shape:
        raise UserError(f"{path}: expected numbers of shape [height, width], got {values.dtype} {list(values.shape)}")
    check_megapixels(f"{path}: the map has", values.shape[1], values.shape[0], max_megapixels)
    return np.asarray(values)


def write_thousandths(path: Path, depth: np.ndarray) -> None:
    """Writes `[height, width]` as PNG of 16 bits, as phones do; 65.535 units and beyond share the largest number."""
    Image.fromarray(np.clip(np.rint(depth * 1000), 0, 65535).astype(np.uint16)).save(path, compress_level=PNG_LEVEL)
