# SPDX-License-Identifier: Apache-2.0
"""Images: PNG, JPEG, WebP and TIFF with 8 or 16 bits, EXR, Radiance HDR and TIFF in float, and .npy, mapped from disk.

Values stay as they are stored: sRGB codes of 0 ... 255 or 65535, linear light in floats; whole numbers of other types,
which a .npy may have, are numbers like floats. Channels that say nothing are
dropped: an alpha that is full everywhere, colours that are all grey.
"""

import re
from pathlib import Path

import numpy as np

from neurfield.data import tiff
from neurfield.data.ffmpeg import opened
from neurfield.data.image_files import check_megapixels, deep_pixels, read_header
from neurfield.data.paths import IMAGE_SUFFIXES
from neurfield.data.signals.arrays import array_shape, open_array
from neurfield.data.signals.grid import GridSignal, grid_signal, slabs, value_range
from neurfield.errors import UserError, retold
from neurfield.progress import Progress, silent

SUFFIXES = (*IMAGE_SUFFIXES, ".hdr")
MAX_CHANNELS = 4
_HEAD = 1 << 14  # bytes in which the size of a Radiance picture is looked for


def detect(path: Path) -> bool:
    """By suffix; a .npy is an image with two axes, or three of which the last has at most four values."""
    if path.suffix.lower() == ".npy":
        shape = array_shape(path)
        return len(shape) == 2 or (len(shape) == 3 and shape[-1] <= MAX_CHANNELS)
    return path.suffix.lower() in SUFFIXES


def read(path: Path, max_megapixels: float, progress: Progress = silent) -> GridSignal:
    """Decodes an image, or maps a .npy.

    Raises:
        UserError: unreadable, broken, larger than `max_megapixels`, without pixels, not finite, or a TIFF of several
            pictures of one size.
    """
    if path.suffix.lower() == ".npy":
        values = open_array(path)
        values = values[..., None] if values.ndim == 2 else values
        check_megapixels(f"{path}: the image has", values.shape[1], values.shape[0], max_megapixels)
    else:
        values = _fewest_channels(_pixels(path, max_megapixels))
    if not values.size:
        raise UserError(f"{path}: the image has no pixels ({values.shape[1]} x {values.shape[0]})")
    if values.dtype.name in ("uint8", "uint16"):
        low, high = 0.0, float(np.iinfo(values.dtype).max)
    else:  # of other whole numbers, as heights or labels, their type's range says nothing
        low, high = value_range(values, str(path))
        low, high = min(low, 0.0), max(high, 1.0)
    known = {"low": low, "high": high, "name": path.stem, "suffix": path.suffix.lower()}
    return grid_signal(values, str(path), **known)


def _pixels(path: Path, max_megapixels: float) -> np.ndarray:
    if path.suffix.lower() == ".hdr":
        return _radiance(path, max_megapixels)
    header = read_header(path, max_megapixels)
    if path.suffix.lower() in tiff.SUFFIXES and tiff.is_stack(path):
        raise UserError(
            f"{path}: a stack of pictures, of which the first alone would be learned; save one page as a picture, or "
            "all of them as a volume, .npy [x, y, z]"
        )
    return deep_pixels(path, header)


def _radiance(path: Path, max_megapixels: float) -> np.ndarray:
    """`[height, width, 3]` float32 of a Radiance picture, by FFmpeg's decoder."""
    import av

    with path.open("rb") as file:
        size = re.search(rb"\n[-+]Y (\d{1,9}) [-+]X (\d{1,9})\n", file.read(_HEAD))
    if size is None:
        raise UserError(f"{path}: not a Radiance picture, or its head is broken")
    check_megapixels(f"{path}: the image has", int(size[2]), int(size[1]), max_megapixels)
    try:
        with opened(path, "hdr_pipe", max_megapixels) as container:
            (frame,) = container.decode(video=0)
            return np.ascontiguousarray(frame.to_ndarray(format="gbrpf32le"), dtype=np.float32)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise retold(error, f"{path}: not a whole Radiance picture") from None


def _fewest_channels(pixels: np.ndarray) -> np.ndarray:
    """Grey (1), grey and alpha (2), RGB (3) or RGBA (4): as few as say the same."""
    color, alpha = pixels[..., :3], pixels[..., 3:]
    full = 1 if pixels.dtype.kind == "f" else np.iinfo(pixels.dtype).max
    # part by part: of most pictures the first says it already
    if all((part == part[..., :1]).all() for part in slabs(color)):
        color = color[..., :1]
    if alpha.size and not all((part == full).all() for part in slabs(alpha)):
        color = np.concatenate([color, alpha], axis=-1)
    return np.ascontiguousarray(color)
