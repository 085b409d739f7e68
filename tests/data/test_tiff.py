# SPDX-License-Identifier: Apache-2.0
"""TIFF files, written by hand: every depth and number of channels, and what must not be read."""

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurfield.data import load_scene
from neurfield.data.image_files import deep_pixels, in_threads, read_header, read_pixels
from neurfield.errors import UserError
from tests.data.small import HEIGHT, WIDTH, transforms, write_json

RANDOM = np.random.default_rng(0)
UNASSOCIATED, ASSOCIATED = 2, 1


def tiff(
    path: Path,
    pixels: np.ndarray,
    order: str = "<",
    compression: int = 1,
    extra: int | None = None,
    is_big: bool = False,
    **tags: int,
) -> Path:
    """Writes `[height, width, channels]` in strips of two rows."""
    place, count, beginning = ("Q", "Q", 16) if is_big else ("I", "H", 8)
    n_inside = struct.calcsize(place)  # bytes of a value that fit into its tag
    height, width, channels = pixels.shape
    rows = pixels.astype(pixels.dtype.newbyteorder(order))
    strips = [rows[y : y + 2].tobytes() for y in range(0, height, 2)]
    if compression == 8:
        strips = [zlib.compress(strip) for strip in strips]
    kind, bits = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind], 8 * pixels.dtype.itemsize
    content = b""
    places = []
    for strip in strips:
        places.append(beginning + len(content))
        content += strip + b"\0" * (len(strip) % 2)
    entries: dict[int, tuple[str, list[int]]] = {
        256: ("I", [width]),
        257: ("I", [height]),
        258: ("H", [bits] * channels),
        259: ("H", [compression]),
        262: ("H", [2 if channels > 2 else 1]),
        273: ("I", places),
        277: ("H", [channels]),
        278: ("I", [2]),
        279: ("I", [len(strip) for strip in strips]),
        339: ("H", [kind] * channels),
    }
    if extra is not None:
        entries[338] = ("H", [extra])
    for name, value in tags.items():
        entries[{"photometric": 262, "orientation": 274, "predictor": 317, "tile": 322}[name]] = ("H", [value])
    first = beginning + len(content)
    listed = struct.pack(order + count, len(entries))
    behind = first + len(listed) + (4 + 2 * n_inside) * len(entries) + n_inside
    far = b""
    for tag, (letter, values) in sorted(entries.items()):
        data = struct.pack(f"{order}{len(values)}{letter}", *values)
        if len(data) > n_inside:
            data, far = struct.pack(order + place, behind + len(far)), far + data
        listed += struct.pack(order + "HH" + place, tag, {"H": 3, "I": 4}[letter], len(values))
        listed += data.ljust(n_inside, b"\0")
    head = struct.pack(order + "HHHQ", 43, 8, 0, first) if is_big else struct.pack(order + "HI", 42, first)
    path.write_bytes((b"II" if order == "<" else b"MM") + head + content + listed + b"\0" * n_inside + far)
    return path


def picture(dtype: Any, channels: int, height: int = 5, width: int = 7) -> np.ndarray:
    if dtype == np.float32:
        return RANDOM.uniform(0, 8, (height, width, channels)).astype(dtype)
    return RANDOM.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def read(path: Path, deep: bool = False) -> np.ndarray:
    header = read_header(path, 64)
    pixels = deep_pixels(path, header) if deep else read_pixels(path, header)
    assert pixels.shape == (*header.upright[::-1], header.channels)
    return pixels


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_depth_and_number_of_channels(
    tmp_path: Path, dtype: Any, channels: int, compression: int, order: str
) -> None:
    stored = picture(dtype, channels)
    path = tiff(tmp_path / "a.tif", stored, order, compression, UNASSOCIATED if channels == 4 else None)
    if dtype == np.float32 and channels == 1 and compression != 1 and order == ">":
        with pytest.raises(UserError, match="a kind of TIFF that is not read"):  # Pillow swaps its bytes
            read(path)
        return
    colors = np.repeat(stored, 3, axis=2) if channels == 1 else stored
    found = read(path, deep=True)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, colors)
    if dtype == np.uint16:
        np.testing.assert_array_equal(read(path), np.rint(colors / 257.0).astype(np.uint8))


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize(("dtype", "channels"), [(np.uint8, 3), (np.uint16, 1), (np.uint16, 3), (np.float32, 3)])
def test_orientation(tmp_path: Path, dtype: Any, channels: int, orientation: int) -> None:
    stored = picture(dtype, channels)
    path = tiff(tmp_path / "a.tiff", stored, orientation=orientation)
    colors = np.repeat(stored, 3, axis=2) if channels == 1 else stored
    # where the first row and the first column of the stored pixels are: the table of the TIFF standard
    expected = {
        2: colors[:, ::-1],
        3: np.rot90(colors, 2),
        4: colors[::-1],
        5: colors.swapaxes(0, 1),
        6: np.rot90(colors, -1),
        7: np.rot90(colors, 2).swapaxes(0, 1),
        8: np.rot90(colors),
    }[orientation]
    np.testing.assert_array_equal(read(path, deep=True), expected)
    header = read_header(path, 64)
    np.testing.assert_array_equal(
        read_pixels(path, header, upright=False), np.rint(colors / 257.0) if dtype == np.uint16 else colors
    )


@pytest.mark.parametrize("orientation", [2, 6, 8])
@pytest.mark.parametrize(("dtype", "shape"), [("uint8", (4, 6)), ("uint16", (4, 6)), ("uint8", (4, 6, 4))])
def test_orientation_of_a_single_strip(dtype: str, shape: tuple[int, ...], orientation: int, tmp_path: Path) -> None:
    """Which Pillow maps from the disk where it may, and then as if the picture had been stored upright."""
    stored = RANDOM.integers(0, 255, shape).astype(dtype)
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={274: orientation})
    expected = {2: stored[:, ::-1], 6: np.rot90(stored, -1), 8: np.rot90(stored)}[orientation]
    found = read(tmp_path / "a.tif", deep=True)
    np.testing.assert_array_equal(found if stored.ndim == 3 else found[..., 0], expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_alpha_becomes_straight(tmp_path: Path, dtype: Any) -> None:
    full = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    straight = np.array([[[0.2, 0.4, 0.6, 0.5], [1, 0, 0.5, 0.25], [0, 0, 0, 0], [0.1, 0.2, 0.3, 1]]] * 2) * full
    multiplied = np.concatenate([straight[..., :3] * straight[..., 3:] / full, straight[..., 3:]], axis=2)
    if dtype != np.float32:
        multiplied = np.rint(multiplied)
    found = read(tiff(tmp_path / "a.tif", multiplied.astype(dtype), extra=ASSOCIATED), deep=True)
    # colours of integers were rounded before they were divided by at least a quarter, and are again
    tolerance = 1e-6 if dtype == np.float32 else 0.5 / 0.25 + 0.5 + 1
    np.testing.assert_allclose(found.astype(np.float64), straight, atol=tolerance)
    opaque = tiff(tmp_path / "b.tif", multiplied.astype(dtype), extra=0)  # something, but no alpha
    assert read_header(opaque, 64).channels == 3


@pytest.mark.parametrize(
    ("stored", "tags"),
    [
        (picture(np.uint16, 3), {"tile": 16}),
        (picture(np.float32, 3), {"predictor": 3}),
        (picture(np.uint16, 1), {"photometric": 0}),
        (picture(np.uint16, 2), {}),
        (picture(np.uint32, 1), {}),
        (picture(np.int16, 1), {}),
        (np.zeros((4, 4, 3), np.float16), {}),
        (np.zeros((4, 4, 1), np.float64), {}),
        (picture(np.uint16, 3), {"is_big": True}),
        (picture(np.float32, 3), {"is_big": True}),
    ],
)
def test_other_kinds_are_refused_and_not_guessed(tmp_path: Path, stored: np.ndarray, tags: dict[str, Any]) -> None:
    path = tiff(tmp_path / "a.tif", stored, **tags)
    with pytest.raises(UserError, match=r"a\.tif: a kind of TIFF that is not read .*; export it as PNG or EXR"):
        read(path)


@pytest.mark.parametrize(("dtype", "compression"), [(np.uint8, 1), (np.uint8, 8), (np.uint16, 8), (np.float32, 1)])
def test_broken_files(tmp_path: Path, dtype: Any, compression: int) -> None:
    path = tiff(tmp_path / "a.tif", picture(dtype, 3, 64, 64), compression=compression)
    whole = path.read_bytes()
    place = whole.index(struct.pack("<HHI", 279, 4, 32)) + 8  # of the bytes of the strips
    far = struct.unpack("<I", whole[place : place + 4])[0]
    path.write_bytes(whole[:far] + struct.pack("<I", 1 << 20) + whole[far + 4 :])
    with pytest.raises(UserError, match=r"a\.tif: the image is broken or truncated"):
        read_header(path, 64)
    if dtype == np.uint8 and compression == 8:  # FFmpeg lets it pass
        path.write_bytes(whole[:40] + b"\xff" * 400 + whole[440:])
        with pytest.raises(UserError, match=r"a\.tif: the image is broken or truncated"):
            read(path)
    for n in (0, 3, 8, len(whole) // 2, len(whole) - 40):
        path.write_bytes(whole[:n])
        with pytest.raises(UserError, match=r"a\.tif: (the image is broken|not an image)"):
            read(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_strips_that_are_not_there_are_missed(tmp_path: Path, dtype: Any) -> None:
    path = tiff(tmp_path / "a.tif", picture(dtype, 3))
    whole = path.read_bytes()
    taller = whole.replace(struct.pack("<HHII", 257, 4, 1, 5), struct.pack("<HHII", 257, 4, 1, 7))
    assert taller != whole
    path.write_bytes(taller)
    with pytest.raises(UserError, match=r"a\.tif: the image is broken or truncated \(4 parts were to be in it, 3 are"):
        read_header(path, 64)


@pytest.mark.parametrize("kind", [2, 5])  # a text, fractions
def test_a_tag_of_a_kind_that_it_cannot_have(tmp_path: Path, kind: int) -> None:
    path = tiff(tmp_path / "a.tif", picture(np.uint8, 3))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(struct.pack("<HHI", 273, 4, 3), struct.pack("<HHI", 273, kind, 3)))
    assert path.read_bytes() != whole
    with pytest.raises(UserError, match=r"a\.tif: the image is broken or truncated"):
        read(path)


def test_the_orientation_is_that_of_the_tag(tmp_path: Path) -> None:
    stored = picture(np.uint8, 3)
    other = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'  # as programs of photos write it
    Image.fromarray(stored).save(tmp_path / "a.tif", tiffinfo={700: other})
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), stored)


def test_bombs_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", picture(np.uint8, 3))
    whole = path.read_bytes()
    large = whole.replace(struct.pack("<HHII", 256, 4, 1, 7), struct.pack("<HHII", 256, 4, 1, 20_000_000))
    assert large != whole
    path.write_bytes(large)
    with pytest.raises(UserError, match=r"100\.0 megapixels \(20000000 x 5\), more than the 64 allowed"):
        in_threads(lambda path: read_header(path, 64), [path])
    Image.fromarray(picture(np.uint8, 3)).save(path, "PNG")
    with pytest.raises(UserError, match=r"a\.tif: "):
        read_header(path, 64)
    tiff(tmp_path / "a.png", picture(np.uint8, 3))  # as a raw photo with the wrong name
    with pytest.raises(UserError, match="not an image of a kind"):
        read_header(tmp_path / "a.png", 64)


def test_large_places_and_several_pages(tmp_path: Path) -> None:
    stored = picture(np.uint8, 3)
    image, other = Image.fromarray(stored), Image.fromarray(picture(np.uint8, 3, 9, 9))
    tiff(tmp_path / "a.tif", stored, is_big=True)
    image.save(tmp_path / "b.tif", save_all=True, append_images=[other], compression="tiff_lzw")
    for name in ("a.tif", "b.tif"):
        np.testing.assert_array_equal(read(tmp_path / name), stored)


def test_floats_that_are_none(tmp_path: Path) -> None:
    for channels in (1, 3):
        path = tiff(tmp_path / "a.tif", np.full((4, 4, channels), np.nan, np.float32))
        with pytest.raises(UserError, match="48 values of the image are NaN or infinite"):
            read(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_data_set_of_tiff_files(tmp_path: Path, dtype: Any) -> None:
    content = transforms(tmp_path, n=9)
    stored = [picture(dtype, 3, HEIGHT, WIDTH) for _ in content["frames"]]
    for i, pixels in enumerate(stored):
        (tmp_path / f"images/{i:03d}.png").unlink()
        tiff(tmp_path / f"images/{i:03d}.tif", pixels)
        content["frames"][i]["file_path"] = f"images/{i:03d}"  # without a suffix, as in Blender's layout
    write_json(tmp_path / "transforms.json", content)
    scene = load_scene(tmp_path)
    expected = np.rint(stored[3] / 257.0) if dtype == np.uint16 else stored[3]
    np.testing.assert_array_equal(scene.images[3].numpy(), expected)
    assert any("9 images have 16 bits" in note for note in scene.notes) == (dtype == np.uint16)
