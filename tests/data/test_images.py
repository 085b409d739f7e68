# SPDX-License-Identifier: Apache-2.0
"""Pixels of every kind of image file, sizes and limits that are known before decoding."""

import errno
import struct
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurfield.data import decode, read_manifest
from neurfield.data.image_files import in_threads, read_header, read_mask, read_pixels
from neurfield.errors import UserError
from tests.data.small import pixels, transforms

ORIENTATION = 0x0112


def read(path: Path, upright: bool = True) -> np.ndarray:
    header = read_header(path, 64)
    image = read_pixels(path, header, upright)
    width, height = header.upright if upright else (header.width, header.height)
    assert image.shape == (height, width, header.channels)
    return image


def png(path: Path, image: np.ndarray, bits: int, color_type: int) -> Path:
    """A PNG by hand, so that 16-bit colours do not pass through the library under test."""
    rows = image.astype(">u2" if bits == 16 else np.uint8)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", image.shape[1], image.shape[0], bits, color_type, 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(data)), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


def test_grey_palette_and_alpha_become_rgb_or_rgba(tmp_path: Path) -> None:
    grey = pixels(1)[:, :, 0]
    path = tmp_path / "a.png"
    Image.fromarray(grey).save(path)
    np.testing.assert_array_equal(read(path), np.repeat(grey[:, :, None], 3, axis=2))
    rgba = pixels(2, channels=4)
    Image.fromarray(rgba[:, :, 2:]).save(path)  # grey and alpha
    np.testing.assert_array_equal(read(path), rgba[:, :, [2, 2, 2, 3]])
    palette = Image.fromarray(grey % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    palette.save(path)
    np.testing.assert_array_equal(read(path)[:, :, 1], (grey % 4) * 30 + 20)
    palette.save(path, transparency=2)
    np.testing.assert_array_equal(read(path)[:, :, 3], np.where(grey % 4 == 2, 0, 255))
    Image.fromarray(grey > 99).save(path)
    np.testing.assert_array_equal(read(path)[:, :, 0], np.where(grey > 99, 255, 0))


@pytest.mark.parametrize(("channels", "color_type"), [(1, 0), (3, 2), (4, 6)])
def test_16_bits_are_rounded_to_8(tmp_path: Path, channels: int, color_type: int) -> None:
    wide = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(np.uint16)
    wide[0, :4] = [[0], [128], [129], [65535]]  # 128.5 of 65535 is half a level
    path = png(tmp_path / "a.png", wide, 16, color_type)
    assert read_header(path, 64).is_16_bit
    expected = np.rint(wide.astype(np.float64) / 257).astype(np.uint8)
    np.testing.assert_array_equal(read(path), np.repeat(expected, 3, axis=2) if channels == 1 else expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int) -> None:
    """The corner that EXIF calls top left and the side that it calls the first row come out there."""
    stored = pixels(3)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(stored).save(path, exif=exif)
    # Table of the EXIF standard: where row 0 and column 0 of the stored pixels are in the upright picture.
    flip_rows, flip_columns, swap = {
        1: (0, 0, 0),
        2: (0, 1, 0),
        3: (1, 1, 0),
        4: (1, 0, 0),
        5: (0, 0, 1),
        6: (1, 0, 1),
        7: (1, 1, 1),
        8: (0, 1, 1),
    }[orientation]
    expected = stored[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
    expected = expected.transpose(1, 0, 2) if swap else expected
    np.testing.assert_array_equal(read(path), expected)
    np.testing.assert_array_equal(read(path, upright=False), stored)


def gradient(width: int = 64, height: int = 48) -> np.ndarray:
    """Smooth, so that lossy files keep it to a few levels, and different along each axis."""
    y, x = np.mgrid[:height, :width]
    return np.stack([4 * x, 5 * y, 255 - 2 * (x + y)], axis=2).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
def test_lossy_files_hold_the_picture(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(gradient()).save(path, quality=95)
    difference = np.abs(read(path).astype(int) - gradient())
    assert difference.mean() < 2 and difference.max() < 16  # neighbouring pixels differ by 4 and 5


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_orientation_of_jpeg(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.jpg", exif=exif, quality=95)
    expected = np.rot90(gradient(), {3: 2, 6: -1, 8: 1}[orientation])
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - expected).mean() < 2
    assert read(tmp_path / "a.jpg", upright=False).shape == (48, 64, 3)


def test_orientation_of_16_bit_images(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    wide = pixels(1)[:, :, 0].astype(np.uint16) * 257
    Image.fromarray(wide).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png")[:, :, 0], (wide // 257)[::-1].T)


def test_bombs_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = png(tmp_path / "a.png", np.zeros((1, 1), np.uint8), 8, 0)
    head = bytearray(path.read_bytes())
    head[16:24] = struct.pack(">II", 20000, 5000)  # a header that promises 100 megapixels
    head[29:33] = struct.pack(">I", zlib.crc32(bytes(head[12:29])))
    path.write_bytes(bytes(head))
    with pytest.raises(UserError, match=r"100\.0 megapixels \(20000 x 5000\), more than the 64 allowed"):
        in_threads(lambda path: read_header(path, 64), [path])
    (header,) = in_threads(lambda path: read_header(path, 101), [path])
    with pytest.raises(UserError, match="broken or truncated"):
        in_threads(lambda path: read_pixels(path, header), [path])


def test_pillows_own_limit_is_lifted_until_the_last_reader_is_done() -> None:
    before = Image.MAX_IMAGE_PIXELS
    assert before is not None
    readers = []
    for _ in range(2):
        inside, leave = threading.Event(), threading.Event()
        work = lambda _, inside=inside, leave=leave: (inside.set(), leave.wait(10))  # noqa: E731
        thread = threading.Thread(target=in_threads, args=(work, [0]))
        thread.start()
        assert inside.wait(10)
        readers.append((thread, leave))
    for thread, leave in readers:
        assert Image.MAX_IMAGE_PIXELS is None
        leave.set()
        thread.join(10)
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_picture_beyond_pillows_limit_is_read_where_ours_allows_it(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = pixels(1)
    Image.fromarray(image).save(tmp_path / f"a{suffix}")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1)
    np.testing.assert_array_equal(read(tmp_path / f"a{suffix}"), image)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_pixels_are_not_in_memory_twice(suffix: str, tmp_path: Path) -> None:
    """Beside Pillow's own, which are not counted here."""
    path = tmp_path / f"a{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (1500, 200, 3), np.uint8)).save(path)
    header = read_header(path, 64)
    tracemalloc.start()
    try:
        image = read_pixels(path, header)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_array_equal(image, np.asarray(Image.open(path)))
    assert image.nbytes <= peak < 1.5 * image.nbytes and image.flags.writeable


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_truncated_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(pixels(0, 64, 64)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(UserError, match=rf"a{suffix}: .*(broken|truncated|not an image)"):
        read_header(path, 64)
    path.write_bytes(content + b"more behind the picture")
    assert read(path).shape == (64, 64, 3)
    path.write_bytes(content[:10])
    with pytest.raises(UserError, match=rf"a{suffix}: "):
        read(path)
    path.write_bytes(b"")
    with pytest.raises(UserError, match="not an image of a kind that is read here"):
        read(path)


def test_other_formats_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(pixels(0)).save(path, format="GIF")
    with pytest.raises(UserError, match="PNG, JPEG, WebP, TIFF, EXR"):
        read(path)


def test_masks_are_any_colour(tmp_path: Path) -> None:
    image = np.zeros((3, 4, 4), np.uint8)
    image[0, 0] = (0, 0, 1, 255)
    image[1, 1] = (0, 0, 0, 255)
    Image.fromarray(image).save(tmp_path / "a.png")
    expected = np.zeros((3, 4), bool)
    expected[0, 0] = True
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", 64), expected)


def write_exr(path: Path, rgba: np.ndarray, **header: object) -> Path:
    exr = pytest.importorskip("OpenEXR")
    names = "RGBA"[: rgba.shape[2]]
    channels = {name: np.ascontiguousarray(rgba[:, :, i]) for i, name in enumerate(names)}
    base = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with exr.File(base | header, channels) as file:
        file.write(str(path))
    return path


def test_exr_is_linear_float_with_straight_alpha(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    color, alpha = rng.uniform(0, 8, (5, 7, 3)).astype(np.float32), rng.uniform(0.1, 1, (5, 7, 1)).astype(np.float32)
    path = write_exr(tmp_path / "a.exr", np.concatenate([color * alpha, alpha], axis=2))
    image = read(path)
    assert image.dtype == np.float32
    # one rounded product and one rounded quotient: at most 2 ulp
    np.testing.assert_allclose(image[:, :, :3], color, rtol=2.4e-7)
    np.testing.assert_array_equal(image[:, :, 3:], alpha)
    np.testing.assert_array_equal(read(write_exr(tmp_path / "b.exr", color)), color)


def test_an_image_that_is_another_since_it_was_looked_at(tmp_path: Path) -> None:
    path = write_exr(tmp_path / "a.exr", np.ones((6, 8, 3), np.float32))
    header = read_header(path, 1.0)
    write_exr(path, np.ones((1, 8, 3), np.float32))
    with pytest.raises(UserError, match=r"a\.exr: the image changed while it was read"):
        read_pixels(path, header)


def test_exr_data_window_is_placed_in_the_display_window(tmp_path: Path) -> None:
    data = np.arange(1, 13, dtype=np.float32).reshape(2, 2, 3)
    windows = {
        "dataWindow": (np.array([-1, 1], np.int32), np.array([0, 2], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([2, 3], np.int32)),
    }
    image = read(write_exr(tmp_path / "a.exr", data, **windows))
    expected = np.zeros((4, 3, 3), np.float32)
    expected[1:3, 0] = data[:, 1]
    np.testing.assert_array_equal(image, expected)


def test_unusable_exr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_exr(tmp_path / "a.exr", np.full((4, 4, 3), np.inf, np.float32))
    with pytest.raises(UserError, match="48 values of the image are NaN or infinite"):
        read(path)
    with pytest.raises(UserError, match="megapixels"):
        read_header(path, 1e-6)
    path.write_bytes(b"not an exr")
    with pytest.raises(UserError, match="not a whole EXR image"):
        read(path)
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    with pytest.raises(UserError, match="pip install OpenEXR"):
        read(path)


def test_an_image_that_may_not_be_read_is_not_called_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **keys: object) -> None:  # what permissions say to root is not what others hear
        raise PermissionError(13, "Permission denied", str(tmp_path / "a.png"))

    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(UserError, match=r"a\.png: may not be read; give yourself the permission: chmod u\+rX$"):
        read_header(tmp_path / "a.png", 1)


def test_all_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"{i}.png" for i in range(6)]
    for path in paths[1:]:
        path.write_bytes(b"none")
    Image.new("RGB", (4, 4)).save(paths[0])
    for n, others in ((2, None), (3, "1 more cannot be used: 2"), (6, "4 more cannot be used: 2, 3, 4, ...")):
        with pytest.raises(UserError) as caught:
            in_threads(lambda path: read_header(path, 1), paths[:n])
        first, *more = str(caught.value).replace(f"{tmp_path}/", "").replace(".png", "").split("; ")
        assert first.startswith("1: not an image") and more[1:] == ([others] if others else [])
    with pytest.raises(UserError) as caught:  # one mask of many photos
        in_threads(lambda path: read_header(path, 1), [paths[1]] * 4)
    assert "more" not in str(caught.value)


def test_memory_that_runs_out_is_not_called_a_broken_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **keys: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    Image.fromarray(pixels(1)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", refused)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        read(tmp_path / "a.png")


def test_decoding_says_how_far_it_is(tmp_path: Path) -> None:
    transforms(tmp_path, n=4)
    told: list[float] = []
    decode(read_manifest(tmp_path), told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]
