# SPDX-License-Identifier: Apache-2.0
"""TIFF images: 8 and 16 bits (sRGB) and float32 (linear), with straight alpha; of several pages the first.

Pillow reads those of 8 bits, and grey ones; FFmpeg reads 16-bit and float colours, of which Pillow keeps 8 bits, or
nothing. What either gives wrong without a word (tiles, predictors of floats) is refused by what the tags say.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from neurfield.data.ffmpeg import opened
from neurfield.data.orientation import BACK, turned
from neurfield.data.pillow import colors_of
from neurfield.errors import UserError

SUFFIXES = (".tif", ".tiff")
WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, ORIENTATION, N_SAMPLES = 256, 257, 258, 259, 262, 274, 277
PLANES, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, EXTRA_SAMPLES, SAMPLE_FORMAT = 284, 317, 322, 323, 338, 339
ROWS_PER_STRIP = 278
# where the strips or tiles of pixels lie, and their bytes
PARTS = ((273, 279), (324, 325))
UNSIGNED, FLOAT = 1, 3  # of SAMPLE_FORMAT
UNCOMPRESSED = 1  # of COMPRESSION
BLACK_IS_ZERO, RGB = 1, 2  # of PHOTOMETRIC
NO_ALPHA, MULTIPLIED, STRAIGHT = 0, 1, 2  # of EXTRA_SAMPLES
CLASSIC, BIG = 42, 43
# by version, letters of struct for a place in the file, the number of tags, and a tag: number, kind, length, value
_PLACES = {CLASSIC: ("I", "H", "HHI4s"), BIG: ("Q", "Q", "HHQ8s")}
_SIZES = {3: 2, 4: 4, 5: 8, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}  # bytes by kind, else 1
_WHOLE = {1: "B", 3: "H", 4: "I", 16: "Q"}


@dataclass(frozen=True)
class Layout:
    """What the tags of a TIFF file say.

    Attributes:
        width, height: of the stored pixels.
        n_pixels: to decode, in tiles that may be larger.
        bits: of a channel: 8, 16, or 32, which are floats.
        channels: 3 or 4, as it will be decoded.
        is_multiplied: colours of 16 bits or floats are multiplied by alpha.
        by_ffmpeg: Pillow cannot read it whole.
        orientation: 1 ... 8.
    """

    width: int
    height: int
    n_pixels: int
    bits: int
    channels: int
    is_multiplied: bool
    by_ffmpeg: bool
    orientation: int


def layout(path: Path) -> Layout:
    """The tags of the first page, and whether its pixels are in the file.

    Raises:
        UserError: a kind that is not read. What Pillow raises for broken files, see image_files.BROKEN.
    """
    tags, order, version, _ = _page(path)
    width, height = _number(tags, WIDTH), _number(tags, HEIGHT)
    bits, formats = set(tags.get(BITS, (1,))), set(tags.get(SAMPLE_FORMAT, (UNSIGNED,)))
    n_samples, color = _number(tags, N_SAMPLES, 1), _number(tags, PHOTOMETRIC, 0)
    in_tiles, predictor = TILE_WIDTH in tags, _number(tags, PREDICTOR, 1)
    is_grey, is_rgb = color == BLACK_IS_ZERO and n_samples == 1, color == RGB and n_samples in (3, 4)
    is_float = bits == {32} and formats == {FLOAT}
    is_plain = is_rgb and not in_tiles and version == CLASSIC  # as FFmpeg knows it
    if max(bits) <= 8 and formats == {UNSIGNED}:
        is_read = _number(tags, PLANES, 1) == 1 or n_samples != 2  # Pillow mixes planes of grey and alpha
    elif bits == {16} and formats == {UNSIGNED}:
        is_read = is_grey or is_plain
    else:  # compressed floats of the other byte order are wrong in Pillow
        is_native = order == "<" or _number(tags, COMPRESSION, 1) == 1
        is_read = is_float and ((is_grey and is_native) or (is_plain and predictor == 1))
    if not is_read:
        raise UserError(
            f"{path}: a kind of TIFF that is not read ({n_samples} channels of {', '.join(map(str, bits))} bits, "
            f"photometric {color}{', in tiles' * in_tiles}{', BigTIFF' * (version == BIG)}, predictor "
            f"{predictor}); export it as PNG or EXR"
        )
    _check_parts(path, tags)
    by_ffmpeg = is_rgb and max(bits) > 8
    if by_ffmpeg:
        extra = tags.get(EXTRA_SAMPLES, ())
        has_alpha = n_samples == 4 and extra != (NO_ALPHA,)
    else:
        extra = ()
        with Image.open(path, formats=("TIFF",)) as image:
            has_alpha = image.has_transparency_data
    orientation = _number(tags, ORIENTATION, 1)
    return Layout(
        width,
        height,
        max(width * height, _number(tags, TILE_WIDTH, 1) * _number(tags, TILE_HEIGHT, 1)),
        min(max(max(bits), 8), 32),
        4 if has_alpha else 3,
        extra == (MULTIPLIED,),
        by_ffmpeg,
        orientation if orientation in range(1, 9) else 1,
    )


def read(path: Path, found: Layout, with_gaps: bool = False) -> np.ndarray:
    """`[height, width, 3 or 4]` uint8, uint16 or float32, as stored, not turned.

    Raises:
        UserError: floats that are not finite, unless `with_gaps`. What Pillow raises for broken files.
    """
    pixels = _by_ffmpeg(path, found) if found.by_ffmpeg else _by_pillow(path, found)
    if not with_gaps and pixels.dtype == np.float32 and not np.isfinite(pixels).all():
        raise UserError(f"{path}: {int((~np.isfinite(pixels)).sum())} values of the image are NaN or infinite")
    return _straight(pixels) if found.is_multiplied else pixels


def is_stack(path: Path) -> bool:
    """Whether a second page is as large as the first, which can be read, and so no small picture of it."""
    tags, _, _, following = _page(path)
    try:
        others = _page(path, following)[0] if following else {}
    except (ValueError, struct.error):  # broken
        return False
    return all(_number(tags, size) == _number(others, size, 0) for size in (WIDTH, HEIGHT))


def _page(path: Path, at: int | None = None) -> tuple[dict[int, tuple[int, ...]], str, int, int]:
    """The whole numbers among the tags of a page, the order of bytes as struct has it, the version, and where the
    next page is told of, 0 for none.

    Args:
        at: where this page is told of; None: the first one.
    """
    size = path.stat().st_size
    with path.open("rb") as file:

        def bytes_at(place: int, n: int) -> bytes:
            if place + n > size:
                raise ValueError("its tags end behind it")
            file.seek(place)
            return file.read(n)

        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2], "")
        version = struct.unpack(f"{order}H", head[2:4])[0] if order else 0
        if version not in _PLACES:
            raise UnidentifiedImageError("no TIFF")
        place, count, entry = (struct.Struct(f"{order}{letters}") for letters in _PLACES[version])
        if at is None:
            (at,) = place.unpack_from(head, 4 if version == CLASSIC else 8)
        (n_entries,) = count.unpack(bytes_at(at, count.size))
        entries_at = at + count.size
        tags, n_all = {}, 0
        for tag, kind, n, value in entry.iter_unpack(bytes_at(entries_at, n_entries * entry.size)):
            n_bytes = n * _SIZES.get(kind, 1)
            n_all += n_bytes
            if n_all > size:  # a small file whose tags all hold the same bytes would fill the memory
                raise ValueError("its tags hold more than it does")
            if n_bytes > len(value):
                value = bytes_at(place.unpack(value)[0], n_bytes)
            if kind in _WHOLE:
                tags[tag] = struct.unpack_from(f"{order}{n}{_WHOLE[kind]}", value)
        end = entries_at + n_entries * entry.size
        following = place.unpack(bytes_at(end, place.size))[0] if end + place.size <= size else 0
    return tags, order, version, following


def _number(tags: dict[int, tuple[int, ...]], tag: int, default: int | None = None) -> int:
    """The only, or the first, number of a tag."""
    values = tags.get(tag) or (() if default is None else (default,))
    if not values:
        raise ValueError(f"tag {tag} is missing")
    return values[0]


def _check_parts(path: Path, tags: dict[int, tuple[int, ...]]) -> None:
    """Raises ValueError where pixels lie nowhere or behind the end of the file: otherwise they would be black."""
    size, n_parts = path.stat().st_size, _n_parts(tags)
    for places, lengths in PARTS:
        if places in tags and lengths in tags:
            if len(tags[places]) < n_parts:
                raise ValueError(f"{n_parts} parts were to be in it, {len(tags[places])} are")
            ends = [place + n for place, n in zip(tags[places], tags[lengths], strict=True)]
            if max(ends, default=0) > size:
                raise ValueError(f"{max(ends)} bytes were to be in it, {size} are")


def _n_parts(tags: dict[int, tuple[int, ...]]) -> int:
    """Strips or tiles of the pixels, as many again for each channel that lies in a plane of its own."""
    height, width = _number(tags, HEIGHT), _number(tags, WIDTH)
    rows, columns = _number(tags, ROWS_PER_STRIP, height), width
    if TILE_WIDTH in tags:
        rows, columns = _number(tags, TILE_HEIGHT), _number(tags, TILE_WIDTH)
    n = -(-height // max(rows, 1)) * -(-width // max(columns, 1))
    return n * _number(tags, N_SAMPLES, 1) if _number(tags, PLANES, 1) == 2 else n


def _by_pillow(path: Path, found: Layout) -> np.ndarray:
    # opened here: Pillow maps a file that it opens itself, and takes the turned size for the stored one then
    with path.open("rb") as file, Image.open(file, formats=("TIFF",)) as image:
        image.info.pop("xmp", None)  # it may have an orientation of its own, which no tag knows
        image.load()  # it stands upright now, whatever its size was before
        if found.bits == 8:
            pixels = colors_of(image, found.channels)
        else:
            grey = np.asarray(image).astype(np.uint16 if found.bits == 16 else np.float32)
            pixels = np.stack([grey] * 3, axis=2)
    return turned(pixels, BACK.get(found.orientation, found.orientation))


def _by_ffmpeg(path: Path, found: Layout) -> np.ndarray:
    import av

    try:
        with opened(path, "tiff_pipe", found.n_pixels / 1e6) as container:
            (frame,) = container.decode(video=0)
            pixels = frame.to_ndarray()
    except av.error.FFmpegError:
        raise ValueError(f"its colours of {found.bits} bits cannot be decoded") from None
    return pixels[:, :, : found.channels].astype(np.uint16 if found.bits == 16 else np.float32)


def _straight(pixels: np.ndarray) -> np.ndarray:
    """Colours divided by their alpha, both within 0 and the largest code if they are integers."""
    alpha = pixels[:, :, 3:].astype(np.float64)
    full = 1.0 if pixels.dtype.kind == "f" else float(np.iinfo(pixels.dtype).max)
    color = np.divide(pixels[:, :, :3] * full, alpha, out=np.zeros(pixels[:, :, :3].shape), where=alpha > 0)
    if pixels.dtype.kind != "f":
        color = np.rint(np.minimum(color, full))
    return np.concatenate([color, alpha], axis=2).astype(pixels.dtype)
