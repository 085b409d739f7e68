# SPDX-License-Identifier: Apache-2.0
"""A sampled image in the format of its suffix: PNG (8 and 16 bits), JPEG, WebP, TIFF, EXR, Radiance HDR, .npy."""

import io
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

from neurfield.data.pillow import PNG_LEVEL
from neurfield.data.signals.grid import GridInfo
from neurfield.data.tiff import SUFFIXES
from neurfield.errors import UserError
from neurfield.export import tiff_file
from neurfield.export.sampled_array import check_memory, sampled_array
from neurfield.files import atomic_path
from neurfield.progress import Progress, silent
from neurfield.registry import lookup
from neurfield.rendering.writers import write_exr
from neurfield.srgb import to_linear, to_srgb

LOSSY_QUALITY = 95
_MAX_SIDE = {".webp": 16383, ".jpg": 65500, ".jpeg": 65500}  # pixels that the formats, and libjpeg, can number
# bytes a value while its file is made, the array included, measured on pictures of 30 megapixels; other formats by
# the size of a value
_PEAK_BYTES = {".webp": 11, ".exr": 18, ".hdr": 24}
_PEAK_BYTES_OF_SIZE = {1: 2.5, 2: 9, 4: 20, 8: 40}


def write_image(
    field: nn.Module,
    info: GridInfo,
    sizes: tuple[int, ...],
    path: Path,
    progress: Progress = silent,
) -> None:
    """Samples a field at `sizes` (height, width) and writes the picture.

    Raises:
        UserError: unknown suffix, a format that cannot hold the values, or more of them than memory holds.
        MachineError: the disk refuses.
    """
    suffix = path.suffix.lower()
    write = lookup(IMAGE_WRITERS, suffix, "image format")
    height, width = sizes
    if max(sizes) > _MAX_SIDE.get(suffix, max(sizes)):
        raise UserError(f"{suffix} holds {_MAX_SIDE[suffix]} pixels a side, not {width} x {height}; give a .png")
    if suffix in (".jpg", ".jpeg", ".hdr") and info.n_channels in (2, 4):
        others = ".exr" if suffix == ".hdr" else ".png or .webp"
        raise UserError(f"{suffix} has no alpha, and the image does; give a {others}")
    n_channels = 4 if info.n_channels == 2 else info.n_channels
    n_bytes = math.prod(sizes) * n_channels * np.dtype(info.dtype).itemsize
    if suffix in SUFFIXES and n_bytes > tiff_file.MAX_BYTES:
        raise UserError(f"TIFF holds 4 GiB, the picture has {n_bytes / 2**30:.1f}; give a .png or .npy")
    if suffix != ".npy":
        itemsize = np.dtype(info.dtype).itemsize
        check_memory(info, sizes, _PEAK_BYTES.get(suffix, _PEAK_BYTES_OF_SIZE[itemsize]))
    with atomic_path(path) as temporary:
        write(temporary, sampled_array(field, info, sizes, progress, temporary if suffix == ".npy" else None))


def _png(path: Path, values: np.ndarray) -> None:
    pixels = _whole(values)
    if pixels.dtype == np.uint16 and pixels.shape[2] > 1:
        path.write_bytes(_wide_png(pixels))
    else:
        _pillow(path, pixels, compress_level=PNG_LEVEL)


def _wide_png(pixels: np.ndarray) -> bytes:
    """16-bit colours, which Pillow does not write, through FFmpeg's encoder."""
    import av

    pixels = _grey_as_colors(pixels)
    small, large = ("rgb48le", "rgb48be") if pixels.shape[2] == 3 else ("rgba64le", "rgba64be")
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format=small)
    context = av.CodecContext.create("png", "w")
    context.width, context.height, context.pix_fmt = frame.width, frame.height, large
    context.time_base = Fraction(1)
    packets = [*context.encode(frame.reformat(format=large)), *context.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def _grey_as_colors(pixels: np.ndarray) -> np.ndarray:
    """RGBA of grey with alpha, which few programs read; everything else as it is."""
    if pixels.shape[2] != 2:
        return pixels
    return np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)


def _lossy(path: Path, values: np.ndarray) -> None:
    pixels = _whole(values)
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    _pillow(path, pixels, quality=LOSSY_QUALITY)


def _pillow(path: Path, pixels: np.ndarray, **options: int) -> None:
    data = io.BytesIO()
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.save(data, format={".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix, path.suffix[1:].upper()), **options)
    path.write_bytes(data.getbuffer())


def _whole(values: np.ndarray) -> np.ndarray:
    """Codes of 8 or 16 bits; linear light becomes sRGB of 8 bits, clamped to 1."""
    if values.dtype in (np.uint8, np.uint16):
        return values
    if values.dtype.kind != "f":
        raise UserError(f"a picture holds uint8, uint16 or floats, and the values are {values.dtype}; give a .npy")
    color, alpha = _parts(np.clip(values, 0, 1))
    return (np.concatenate([to_srgb(color), alpha], axis=2) * 255 + 0.5).astype(np.uint8)


def _linear(values: np.ndarray) -> np.ndarray:
    """Linear floats; whole numbers of 8 and 16 bits are sRGB codes."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    values = _whole(values)
    color, alpha = _parts(values.astype(np.float32) / np.iinfo(values.dtype).max)
    return np.concatenate([to_linear(color), alpha], axis=2, dtype=np.float32)


def _parts(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Colours and alpha, of which there is none with 1 or 3 channels."""
    n_colors = 1 if values.shape[2] <= 2 else 3
    return values[..., :n_colors], values[..., n_colors:]


def _tiff(path: Path, values: np.ndarray) -> None:
    pixels = values.astype(np.float32) if values.dtype.kind == "f" else _whole(values)
    path.write_bytes(tiff_file.encoded(_grey_as_colors(pixels)))


def _exr(path: Path, values: np.ndarray) -> None:
    """Colours are multiplied by alpha, as the format has it."""
    color, alpha = _parts(_linear(values))
    if alpha.size:
        color = color * alpha
    names = ("Y" if color.shape[2] == 1 else "RGB") + ("A" if alpha.size else "")
    write_exr(path, dict(zip(names, [*np.moveaxis(color, 2, 0), *np.moveaxis(alpha, 2, 0)], strict=True)))


def _hdr(path: Path, values: np.ndarray) -> None:
    """Eight bits a colour and one exponent for the three, rounded; a format without values below zero."""
    light = np.clip(_linear(values), 0, 255 * 2.0**119)  # the largest that it holds
    light = np.repeat(light, 3, axis=2) if light.shape[2] == 1 else light
    largest = light.max(axis=2, keepdims=True)
    exponent = np.frexp(largest * np.float32(512 / 511))[1]  # 255.5 and more of 256 are rounded up: to the next one
    codes = np.concatenate([np.rint(np.ldexp(light, 8 - exponent)), exponent + 128], axis=2)
    codes[(largest <= 0.0)[..., 0] | (exponent < -127)[..., 0]] = 0
    head = f"#?RADIANCE\nFORMAT=32-bit_rle_rgbe\n\n-Y {light.shape[0]} +X {light.shape[1]}\n"
    path.write_bytes(head.encode() + codes.astype(np.uint8).tobytes())


def _npy(path: Path, values: np.ndarray) -> None:
    """Written in place while it was sampled."""


IMAGE_WRITERS: dict[str, Callable[[Path, np.ndarray], None]] = {
    ".png": _png,
    ".jpg": _lossy,
    ".jpeg": _lossy,
    ".webp": _lossy,
    ".tif": _tiff,
    ".tiff": _tiff,
    ".exr": _exr,
    ".hdr": _hdr,
    ".npy": _npy,
}
