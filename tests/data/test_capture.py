# SPDX-License-Identifier: Apache-2.0
"""`neurfield process`: photos and videos become data sets whose cameras are where they were."""

import base64
import json
import os
import re
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image, ImageCms

from neurfield.cli.main import main
from neurfield.data import read_manifest, signals
from neurfield.data.capture import CaptureReport, ProcessOptions, cameras, process, seen
from neurfield.data.capture import photos as photo_files
from neurfield.data.capture import video as video_files
from neurfield.data.capture.pairs import MAX_EXHAUSTIVE, all_pairs, likely_pairs
from neurfield.errors import MachineError, UserError
from tests.cli.test_faults import disk_of
from tests.data import photographed

ORIENTATION = 0x0112
N = 9
# 64 x 40, the left half red and the right half blue
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAA"
    "AAAERAAAEAAQAAAAABoQABAAAAAAAAAJMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAA"
    "AADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkA"
    "AAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAA"
    "AAAoY2xhcAAAAEAAAAABAAAAKAAAAAEAAAAAAAAAAv///+gAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAJ"
    "ttZGF0AAAAjygBrwT4cWTTt/+sr///9wDey/vIlvfIP8cmlL/iI5//9Cov2kq5ZG8kusYgWi+4e9QQPsfgIixhiM/7GbDZJPqwbKDFWO/+WeBw"
    "dkqFOD/6E7guOf7jERi2PxnsXlwrK/6lQYDzdBIAfbCaBWLU1D7Tc2F+PYgaO7z7HNnssw047jH/6JKy7mBjGNHusu+w"
)


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, np.ndarray]:
    """Photos, and their poses. Beside them one of nothing and one of something else."""
    folder = tmp_path_factory.mktemp("taken")
    poses = photographed.take(folder, N)
    Image.new("RGB", (photographed.WIDTH, photographed.HEIGHT), (90, 100, 110)).save(folder / "wall_20.jpg")
    other = np.roll(photographed.photo(photographed.cameras(1)[0])[::-1, ::-1], 40, axis=2)
    noise = np.random.default_rng(7).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    Image.fromarray(noise).resize(other.shape[1::-1], Image.Resampling.BICUBIC).save(folder / "wall_21.jpg", quality=95)
    return folder, poses


@pytest.fixture(scope="module")
def made(taken: tuple[Path, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, list]:
    output = tmp_path_factory.mktemp("made") / "walls"
    told: list[tuple[str, float]] = []
    report = process(
        taken[0], output, ProcessOptions(num_downscales=1), progress=lambda stage, done: told.append((stage, done))
    )
    return output, report, told


def aligned(found: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances of positions and angles of rotations (radians) after the best similarity, whose turn is that of the
    cameras' axes: positions on a path tell little of a turn around it."""
    u, _, vt = np.linalg.svd(np.einsum("nij,nkj->ik", true[:, :, :3], found[:, :, :3]))
    rotation = u @ vt
    at, wanted = (poses[:, :, 3] - poses[:, :, 3].mean(0) for poses in (found, true))
    at = at @ rotation.T
    at *= (at * wanted).sum() / (at * at).sum()
    turned = np.einsum("nij,nik->njk", rotation @ found[:, :, :3], true[:, :, :3])
    angles = np.arccos(np.clip((np.trace(turned, axis1=1, axis2=2) - 1) / 2, -1, 1))
    return np.linalg.norm(at - wanted, axis=1), angles


def found_axes(views: list) -> np.ndarray:
    return np.stack([view.c2w[:, :3] for view in views])


def test_cameras_are_found_where_they_were(taken: tuple[Path, np.ndarray], made: tuple[Path, Any, list]) -> None:
    output, report, told = made
    assert report.placed == [f"wall_{i:02d}.jpg" for i in range(N)]
    assert report.n_points > 500 and report.error_pixels < 0.3
    views = sorted(read_manifest(output).views, key=lambda view: view.name)
    found = np.stack([view.c2w for view in views]) @ np.diag([1.0, -1, -1, 1])  # back to the axes of OpenCV
    distances, angles = aligned(found, taken[1])
    # on a path 2.4 wide; a pixel turns a camera by 0.0033
    assert distances.max() < 0.003 and angles.max() < 0.001
    for view in views:
        assert view.intrinsics.fl_x == pytest.approx(photographed.FOCAL, rel=0.002)
    # the photographer stood with y down and looked along z
    forward, upward = -found_axes(views)[:, :, 2], found_axes(views)[:, :, 1]
    assert (upward[:, 2] > 0.95).all() and abs(forward[0, 0]) < 0.05 and forward[0, 1] > 0.9
    stages = [stage for stage, _ in told]
    assert list(dict.fromkeys(stages)) == ["photos", "features", "matches", "cameras"]
    assert all(0 <= done <= 1 for _, done in told) and [done for stage, done in told if stage == "matches"][-1] == 1


def test_it_is_said_why_a_photo_has_no_camera(made: tuple[Path, Any, list]) -> None:
    output, report, _ = made
    assert set(report.unplaced) == {"wall_20.jpg", "wall_21.jpg"}
    assert "few features" in report.unplaced["wall_20.jpg"]
    assert report.unplaced["wall_21.jpg"] == "shares nothing with another photo"
    assert "9 of 11 photos placed" in report.text() and "not placed: wall_20.jpg: few features" in report.text()
    kept = json.loads((output / "process.json").read_text())
    assert kept["unplaced"] == report.unplaced and kept["options"]["num_downscales"] == 1
    assert (output / "images" / "wall_20.jpg").is_file()  # nothing is lost


def test_of_many_sizes_and_reasons_the_user_reads_a_few() -> None:
    cameras_ = [f"camera of size {i}" for i in range(9)]
    unplaced = {f"{i}.jpg": "shares nothing" for i in range(6)}
    left_out = {"day 2": 3, "day 2/late": 1}
    assert CaptureReport(9, ("a", "b"), unplaced, (2, 1), cameras_, 5, 0.5, left_out).text().splitlines() == [
        "2 of 9 photos placed, 5 points, mean error 0.50 pixels",
        *(f"camera: camera of size {i}" for i in range(4)),
        "and 5 more cameras, as sizes differ",
        "not placed: 0.jpg, 1.jpg, 2.jpg, 3.jpg and 2 more: shares nothing",
        "note: parts of 2, 1 photos could not be joined; photos taken between them would do it. "
        "The largest is trained; another one if its folder is named, as OUTPUT/sparse/1",
        "note: 4 more photos lie in folders below (day 2, day 2/late) and are not read: put all into one",
    ]


def test_photos_in_folders_below_are_counted(tmp_path: Path) -> None:
    files = ["1.jpg", "2.png", "day 2/3.jpg", "day 2/late/4.HEIC", "day 2/notes.txt", "masks/1.png", "empty/readme.md"]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert photo_files.left_out(tmp_path) == {"day 2": 1, "day 2/late": 1}
    for name in files[:2]:
        (tmp_path / name).unlink()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/5.jpg").write_bytes(b"")
    assert photo_files.left_out(tmp_path) == {}  # what lies beside images/ is of another kind, as smaller copies are


def test_what_lies_in_the_folder(taken: tuple[Path, np.ndarray], made: tuple[Path, Any, list]) -> None:
    output = made[0]
    assert sorted(path.name for path in output.iterdir()) == ["images", "images_2", "process.json", "sparse"]
    assert (output / "images" / "wall_00.jpg").read_bytes() == (taken[0] / "wall_00.jpg").read_bytes()
    assert Image.open(output / "images_2" / "wall_00.jpg").size == (160, 120)
    assert [path.name for path in (output / "sparse").iterdir()] == ["0"]
    assert not [path for path in output.parent.iterdir() if path != output]


def small_photos(folder: Path) -> Path:
    """An upright picture with a red left and blue right half, stored in all ways."""
    folder.mkdir()
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, :30, 0] = picture[:, 30:, 2] = 200
    upright = Image.fromarray(picture)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # stored on its side: to be turned clockwise
    exif[0x010F] = "Maker"
    upright.transpose(Image.Transpose.ROTATE_90).save(folder / "turned one.jpg", quality=95, exif=exif)
    upright.save(folder / "plain.jpg", quality=95)
    upright.save(folder / "plain.webp", lossless=True)
    upright.save(folder / "wide.tif")
    upright.save(folder / "bare.BMP")
    upright.convert("RGBA").save(folder / "alpha.png")
    (folder / "._plain.jpg").write_bytes(b"what another system leaves")
    (folder / "notes.txt").write_text("no photo")
    return folder


def prepared(folder: Path, tmp_path: Path, **options: Any) -> tuple[dict[str, photo_files.Photo], Path, Path]:
    images, masks = tmp_path / "images", tmp_path / "masks"
    images.mkdir()
    photos = photo_files.prepare(folder, images, masks, options.get("max_megapixels", 100), lambda done: None)
    return {photo.name: photo for photo in photos}, images, masks


def test_names_are_such_that_colmap_can_read_its_lists(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in (b"#1.png", b"a b\t.png", b"gr\xf6n.png", "グリーン.png".encode(), b"-x.png", b"a#.png"):
        Image.new("RGB", (8, 8)).save(os.fsdecode(os.fsencode(folder) + b"/" + name))
    photos, _, _ = prepared(folder, tmp_path)
    assert sorted(photos) == ["-x.png", "_1.png", "a#.png", "a_b_.png", "gr_n.png", "グリーン.png"]


def test_what_is_no_file_is_no_photo(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "album.jpg").mkdir(parents=True)
    os.mkfifo(folder / "pipe.jpg")
    Image.new("RGB", (8, 8)).save(folder / "photo.jpg")
    assert [path.name for path in photo_files.find(folder)[1]] == ["photo.jpg"]
    (folder / "gone.jpg").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"gone\.jpg: no such image"):
        prepared(folder, tmp_path)


def test_no_colour_is_lost_on_the_way(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    on_its_side = Image.Exif()
    on_its_side[ORIENTATION] = 6
    maker = Image.Exif()
    maker[0x010F] = "Maker"
    deep = Image.fromarray(np.full((4, 8), 40000, np.uint16))
    deep.save(folder / "deep.tif")
    Image.fromarray(np.full((4, 8, 3), 90, np.uint8)).save(folder / "made.tif", exif=maker)
    deep.save(folder / "turned.png", exif=on_its_side)
    clear = np.full((4, 8, 4), 90, np.uint8)
    clear[:, :4, 3] = 0
    Image.fromarray(clear).save(folder / "clear.webp", lossless=True, exact=True)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.new("RGB", (4, 4)).save(folder / "profile.jpg", icc_profile=profile, exif=on_its_side)
    Image.new("CMYK", (4, 4)).save(folder / "print.jpg", icc_profile=profile, exif=on_its_side)
    photos, images, _ = prepared(folder, tmp_path)
    for name in ("deep.png", "turned.png"):
        assert (np.asarray(Image.open(images / name).convert("RGB")) == round(40000 / 257)).all()
    made = Image.open(images / "made.png").getexif()
    assert made[0x010F] == "Maker" and set(made) <= {0x010F, 0x8769}  # how the TIFF was stored is not told of a PNG
    assert photos["turned.png"].size == (4, 8)
    assert (np.asarray(Image.open(images / "clear.png")) == clear).all()
    assert Image.open(images / "profile.jpg").info["icc_profile"] == profile
    assert "icc_profile" not in Image.open(images / "print.jpg").info  # its colours are others now
    Image.fromarray(np.zeros((4, 8), np.float32)).save(folder / "float.tif")
    with pytest.raises(UserError, match=r"float\.tif: the photo is of floats; export it with 8 or 16 bits"):
        photo_files.prepare(folder, images, tmp_path / "masks", 1, lambda done: None)


def test_a_photo_is_whole_whatever_its_exif_is(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F] = 6, "Maker"
    Image.new("RGB", (8, 4)).save(folder / "wrong.jpg", exif=exif)
    data = (folder / "wrong.jpg").read_bytes()
    assert data.count(b"\x01\x0f\0\x02") == 1  # the maker's name becomes the resolution, a number
    (folder / "wrong.jpg").write_bytes(data.replace(b"\x01\x0f\0\x02", b"\x01\x1a\0\x02"))
    exif[0x010F] = "x" * 70_000  # more than a JPEG has room for
    Image.new("RGB", (8, 4)).save(folder / "long.webp", exif=exif)
    photos, images, _ = prepared(folder, tmp_path)
    assert {name: photo.size for name, photo in photos.items()} == {"wrong.jpg": (4, 8), "long.jpg": (4, 8)}
    assert all(ORIENTATION not in Image.open(images / name).getexif() for name in photos)


def test_a_full_disk_is_not_called_a_broken_photo(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(pixels).save(tmp_path / "photos/a.webp", lossless=True)
    with disk_of(2000), pytest.raises(OSError, match="File too large"):
        prepared(tmp_path / "photos", tmp_path)


def test_what_a_file_holds_counts_and_not_what_its_name_says(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "from_the_web.jpg", "WEBP")
    Image.new("RGBA", (8, 8)).save(folder / "from_the_web.png", "WEBP", lossless=True)
    photos, images, _ = prepared(folder, tmp_path)  # COLMAP reads no WebP
    assert {name: Image.open(images / name).format for name in photos} == {
        "from_the_web.jpg": "JPEG",
        "from_the_web.png": "PNG",
    }


def test_a_photo_that_colmap_cannot_read_is_told_and_the_others_are_placed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = photo_files.prepare

    def prepare(folder: Path, images: Path, *others: Any) -> list[photo_files.Photo]:
        photos = real(folder, images, *others)
        size = photographed.WIDTH, photographed.HEIGHT + 2  # a lens of its own
        Image.new("RGB", size).save(images / "wall_03.jpg", "WEBP")
        return [replace(photo, size=size) if photo.name == "wall_03.jpg" else photo for photo in photos]

    monkeypatch.setattr(photo_files, "prepare", prepare)
    photographed.take(tmp_path / "photos", 5)
    report = process(tmp_path / "photos", tmp_path / "made")
    assert report.unplaced == {"wall_03.jpg": "COLMAP cannot read it; export it again as JPEG"}
    assert report.n_photos == 5 and len(report.placed) == 4


@pytest.mark.parametrize("suffix", [".webp", ".tif", ".png", ".jpg"])
def test_a_photo_that_was_turned_is_not_turned_again(tmp_path: Path, suffix: str) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    on_its_side = Image.Exif()
    on_its_side[ORIENTATION] = 6
    stored = np.zeros((4, 8, 3), np.uint8)
    stored[:, :4] = 255
    Image.fromarray(stored).save(folder / f"turned{suffix}", exif=on_its_side)
    photos, images, _ = prepared(folder, tmp_path)
    (photo,) = photos.values()
    image = Image.open(images / photo.name)
    assert photo.size == image.size == (4, 8) and image.getexif().get(ORIENTATION, 1) == 1
    assert np.asarray(image)[:4].min() > 200 and np.asarray(image)[4:].max() < 50


def test_photos_of_all_kinds_become_smaller(tmp_path: Path) -> None:
    images, smaller = tmp_path / "images", tmp_path / "smaller"
    images.mkdir()
    smaller.mkdir()
    halves = np.zeros((8, 8), np.uint8)
    halves[:, 4:] = 255
    Image.fromarray(halves).convert("P").save(images / "P.png")
    Image.fromarray(halves).convert("1").save(images / "1.png")
    Image.fromarray(halves.astype(np.uint16) * 257).save(images / "16.png")
    Image.fromarray(halves).convert("CMYK").save(images / "CMYK.jpg", quality=100)
    names = [path.name for path in images.iterdir()]
    photo_files.shrink(images, smaller, names, 2)
    for name in names:
        pixels = np.asarray(Image.open(smaller / name).convert("RGB")).astype(int)
        assert pixels.shape == (4, 4, 3) and abs(pixels - halves[::2, ::2, None]).max() < 6


def test_photos_of_all_kinds_stand_upright(tmp_path: Path) -> None:
    photos, images, _ = prepared(small_photos(tmp_path / "photos"), tmp_path)
    # a space would end the name in COLMAP's lists; plain.webp is a second plain.jpg
    assert sorted(photos) == ["alpha.png", "bare.png", "plain.jpg", "plain_2.jpg", "turned_one.jpg", "wide.png"]
    for name, photo in photos.items():
        image = Image.open(images / name)
        pixels = np.asarray(image.convert("RGB")).astype(int)
        assert photo.size == image.size == (60, 40)
        assert abs(pixels[:, :25] - [200, 0, 0]).max() < 12 and abs(pixels[:, 35:] - [0, 0, 200]).max() < 12
        assert image.getexif().get(ORIENTATION, 1) == 1
    assert photos["turned_one.jpg"].lens[0] == "Maker"
    assert Image.open(images / "turned_one.jpg").getexif()[0x010F] == "Maker"


def test_a_heic_photo_becomes_a_jpeg(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "IMG_1.HEIC").write_bytes(HEIC)
    photos, images, _ = prepared(tmp_path / "photos", tmp_path)
    assert list(photos) == ["IMG_1.jpg"] and photos["IMG_1.jpg"].size == (64, 40)
    pixels = np.asarray(Image.open(images / "IMG_1.jpg")).astype(int)
    assert abs(pixels[:, :25] - [200, 0, 0]).max() < 12 and abs(pixels[:, 40:] - [0, 0, 200]).max() < 12
    (tmp_path / "photos" / "IMG_1.HEIC").write_bytes(HEIC[: len(HEIC) // 2])
    with pytest.raises(UserError, match=r"IMG_1.HEIC: (not a picture|the photo is broken)"):
        photo_files.prepare(tmp_path / "photos", images, tmp_path / "masks", 100, lambda done: None)


@pytest.mark.parametrize("as_stored", [False, True])
def test_masks_are_turned_with_their_photos(tmp_path: Path, as_stored: bool) -> None:
    folder = small_photos(tmp_path / "photos")
    (folder / "masks").mkdir()
    kept = np.zeros((40, 60), np.uint8)
    kept[:, :30] = 255
    mask = Image.fromarray(kept)
    (mask.transpose(Image.Transpose.ROTATE_90) if as_stored else mask).save(folder / "masks" / "turned one.jpg.png")
    photos, _, masks = prepared(folder, tmp_path)
    assert [name for name, photo in photos.items() if photo.has_mask] == ["turned_one.jpg"]
    assert (np.asarray(Image.open(masks / "turned_one.jpg.png")) == kept).all()


def test_features_are_not_looked_for_where_a_mask_is_black(tmp_path: Path, taken: tuple[Path, np.ndarray]) -> None:
    photos = tmp_path / "photos"
    photographed.take(photos, 4)
    (photos / "masks").mkdir()
    black = np.zeros((photographed.HEIGHT, photographed.WIDTH), np.uint8)
    Image.fromarray(black).save(photos / "masks" / "wall_03.png")
    report = process(photos, tmp_path / "made")
    assert "few features" in report.unplaced["wall_03.jpg"] and len(report.placed) == 3
    assert len(report.cameras) == 1  # photos with and without a mask are of one lens
    assert (tmp_path / "made" / "masks" / "wall_03.jpg.png").is_file()


def test_features_are_not_looked_for_behind_transparency(tmp_path: Path) -> None:
    """Behind it lies what moves with the camera: seen, it would say that the cameras stand still."""
    photos = tmp_path / "photos"
    photos.mkdir()
    poses = photographed.cameras(5)
    noise = np.random.default_rng(3).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    behind = Image.fromarray(noise).resize((photographed.WIDTH, photographed.HEIGHT), Image.Resampling.BICUBIC)
    alpha = np.full((photographed.HEIGHT, photographed.WIDTH, 1), 255, np.uint8)
    alpha[:130] = 0
    for i, pose in enumerate(poses):
        color = np.where(alpha > 0, photographed.photo(pose), np.asarray(behind))
        Image.fromarray(np.concatenate([color, alpha], axis=2)).save(photos / f"wall_{i:02d}.png")
    report = process(photos, tmp_path / "made")
    assert len(report.placed) == 5
    views = sorted(read_manifest(tmp_path / "made").views, key=lambda view: view.name)
    found = np.stack([view.c2w for view in views]) @ np.diag([1.0, -1, -1, 1])
    # on a path 2.4 wide, of half of each photo
    assert aligned(found, poses)[0].max() < 0.03
    assert not (tmp_path / "made" / "masks").exists()  # training learns that it is empty there


def test_masks_of_the_search_have_what_is_opaque_and_not_masked(tmp_path: Path) -> None:
    images, masks, search = (tmp_path / name for name in ("images", "masks", "search"))
    images.mkdir()
    masks.mkdir()
    for name in ("masked.png", "clear.png", "plain.png"):
        picture = np.full((4, 6, 4), 255, np.uint8)
        picture[:, :2, 3] = (127, 128) if name != "plain.png" else 255
        Image.fromarray(picture).save(images / name)
    Image.fromarray(np.repeat([[255], [0], [255], [255]], 6, axis=1).astype(np.uint8)).save(masks / "masked.png.png")
    photos = [photo_files.Photo(name, (6, 4), (), name == "masked.png") for name in ("masked.png", "clear.png")]
    found = seen.write_masks([*photos, photo_files.Photo("plain.png", (6, 4))], images, masks, search)
    assert [photo.has_mask for photo in found] == [True, True, False]
    kept = np.full((4, 6), 255)
    kept[:, 0] = 0
    np.testing.assert_array_equal(np.asarray(Image.open(search / "clear.png.png")), kept)
    kept[1] = 0
    np.testing.assert_array_equal(np.asarray(Image.open(search / "masked.png.png")), kept)
    assert len(list(search.iterdir())) == 2


def write_video(path: Path, n: int, quarter_turn: bool = False) -> Path:
    """Squares that move; every fourth picture, from the second on, is sharp, the others are blurred."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.bit_rate = 96, 64, 4_000_000
        for i in range(n):
            picture = np.kron(np.indices((16, 24)).sum(0) % 2, np.ones((4, 4))) * 200
            picture[:, : i + 1] = 0
            if i % 4 != 1:
                picture = (picture + np.roll(picture, 2, 0) + np.roll(picture, 2, 1) + np.roll(picture, 4, 1)) / 4
            frame = np.repeat(picture[..., None], 3, axis=2).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    if quarter_turn:  # as a phone held upright writes it: a clockwise turn in the matrix of the track's head
        data = bytearray(path.read_bytes())
        place = data.index(b"tkhd") + 4 + 40
        data[place : place + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 64 << 16, 0, 1 << 30)
        path.write_bytes(data)
    return path


def test_of_each_part_of_a_video_the_sharpest_picture_is_taken(tmp_path: Path) -> None:
    clip = write_video(tmp_path / "clip.mp4", 16)
    done: list[float] = []
    photos = video_files.take(clip, tmp_path, 4, 10, done.append)
    assert [photo.name for photo in photos] == [f"frame_{i:05d}.jpg" for i in (2, 6, 10, 14)]
    assert done == sorted(done) and done[-1] == 1
    everything = tmp_path / "everything"
    everything.mkdir()
    assert len(video_files.take(clip, everything, 1000, 10, done.append)) == 16
    with pytest.raises(UserError, match=r"its pictures have 96 x 64 pixels, more than the 0.006 megapixels allowed"):
        video_files.take(clip, everything, 4, 0.006, done.append)


def test_a_video_that_is_stored_on_its_side_stands_upright(tmp_path: Path) -> None:
    (photo,) = video_files.take(
        write_video(tmp_path / "clip.mp4", 2, quarter_turn=True), tmp_path, 1, 10, lambda _: None
    )
    assert photo.size == (64, 96)
    learned = signals.read(tmp_path / "clip.mp4")
    assert learned.info.sizes == (2, 96, 64)
    for picture in (np.asarray(Image.open(tmp_path / photo.name)).astype(int), learned.values[1].astype(int)):
        # black on the left before the clockwise turn, on top after it
        assert picture[0].mean() < 40 < 80 < picture[-8:].mean()


def test_of_many_photos_only_likely_pairs_are_compared() -> None:
    random = np.random.default_rng(0)
    n = MAX_EXHAUSTIVE + 20
    world = random.integers(0, 255, (n + 8, 60, 128))
    # photo i shows the features of places i ... i + 7, with some noise, the photos being in no order
    order = random.permutation(n)
    descriptors = [
        np.clip(world[i : i + 8].reshape(-1, 128) + random.integers(-9, 9, (480, 128)), 0, 255).astype(np.uint8)
        for i in order
    ]
    scales = [np.tile(np.arange(60.0, 0, -1), 8) for _ in order]
    pairs = likely_pairs(scales, descriptors)
    wanted = {(i, j) for i, j in all_pairs(n) if abs(order[i] - order[j]) <= 4}
    assert wanted <= pairs and len(pairs) < 0.6 * len(all_pairs(n))
    assert likely_pairs(scales[:5], descriptors[:5]) == all_pairs(5)


def fails(source: Path, output: Path, text: str, options: ProcessOptions | None = None) -> None:
    with pytest.raises(UserError, match=text):
        process(source, output, options)
    assert not output.exists() and not [path for path in output.parent.iterdir() if path.name.startswith(".")]


def test_bad_sources(tmp_path: Path) -> None:
    output = tmp_path / "output"
    fails(tmp_path / "nowhere", output, "nowhere: expected a folder of photos or a video")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", output, "empty: no photos in it .*give the folder that holds them, or a video")
    card = tmp_path / "card"
    (card / "MISC").mkdir(parents=True)
    (card / "DCIM" / "100MEDIA").mkdir(parents=True)
    for name in ("DCIM/1.jpg", "DCIM/100MEDIA/1.JPG", "DCIM/100MEDIA/2.JPG", "MISC/notes.txt"):
        (card / name).touch()
    fails(card, output, "card: no photos in it .*folder that holds them, as .*card/DCIM/100MEDIA with 2, or a video")
    photos = small_photos(tmp_path / "photos")
    fails(photos, output, "none of the 6 photos could be placed .*few features.*each showing much of what its")
    fails(photos, output, "photo has 0.0 megapixels|image has 0.0 megapixels", ProcessOptions(max_megapixels=1e-3))
    (photos / "broken.jpg").write_bytes((photos / "plain.jpg").read_bytes()[:400])
    fails(photos, output, "broken.jpg: the image is broken or truncated")
    (photos / "broken.jpg").unlink()
    (photos / "broken.tif").write_bytes(b"II*\0 and nothing more")
    fails(photos, output, "broken.tif: the image is broken or truncated")
    (photos / "other.webp").write_bytes(b"RIFF")
    fails(photos, output, r"broken.tif: the image is broken .*; 1 more cannot be used: \S*other.webp$")
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (20, 20)).save(tmp_path / "two" / name)
    fails(tmp_path / "two", output, "two: at least 3 photos are needed, better 30 to 150; found 2")
    (tmp_path / "no.mp4").write_bytes(b"nothing of a video")
    fails(tmp_path / "no.mp4", output, "no.mp4: not a whole .mp4 video")


def test_bad_masks(tmp_path: Path) -> None:
    photos = small_photos(tmp_path / "photos")
    (photos / "masks").mkdir()
    Image.new("L", (10, 10)).save(photos / "masks" / "plain.png")
    fails(photos, tmp_path / "output", "plain.png: the mask has 10 x 10 pixels, its photo 60 x 40")


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    photos = small_photos(tmp_path / "photos")
    (photos / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    fails(photos, tmp_path / "output", r"phone.heic: HEIC photos need pi-heif; pip install 'neurfield\[photos\]'")
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    fails(photos, tmp_path / "output", r"needs pycolmap; pip install 'neurfield\[photos\]'")


@pytest.mark.parametrize(
    "options, text",
    [
        ({"camera_model": "fish"}, "--camera-model must be one of auto, .*got 'fish'"),
        ({"num_frames_target": 2}, "--num-frames-target must be 3 ... 10000, got 2"),
        ({"num_downscales": 9}, "--num-downscales must be 0 ... 5, got 9"),
        ({"max_megapixels": float("nan")}, "--max-megapixels must be above 0, got nan"),
    ],
)
def test_bad_options(options: dict[str, Any], text: str) -> None:
    with pytest.raises(UserError, match=text):
        ProcessOptions(**options)


def test_a_folder_of_somebody_else_is_not_replaced(tmp_path: Path) -> None:
    photos = small_photos(tmp_path / "photos")
    with pytest.raises(UserError, match="exists and holds no"):
        process(photos, photos, overwrite=True)
    assert (photos / "plain.jpg").is_file()


def test_photos_are_not_replaced_by_what_is_made_of_them(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    photos = small_photos(tmp_path / "output" / "photos")
    (tmp_path / "output" / "process.json").write_text("{}")
    with pytest.raises(UserError, match=r"photos lies in .*output, which would be replaced; choose another --output"):
        process(photos, tmp_path / "output", overwrite=True)
    assert (photos / "plain.jpg").is_file()


def stopped(stage: str, fraction: float) -> None:
    if stage == "features":
        raise KeyboardInterrupt


def test_an_interrupt_leaves_nothing(tmp_path: Path) -> None:
    photos = small_photos(tmp_path / "photos")
    with pytest.raises(KeyboardInterrupt):
        process(photos, tmp_path / "output", progress=stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_search_takes_no_module_from_the_folder_it_is_started_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = small_photos(tmp_path / "photos")
    (photos / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    monkeypatch.chdir(photos)
    fails(photos, tmp_path / "output", "none of the 6 photos could be placed")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "end, text",
    [
        ("os.abort()", "with exit code -6: last words$"),
        ("os.kill(os.getpid(), 9)", "exit code -9: killed, as the system does where memory runs out; process fewer"),
    ],
)
@pytest.mark.parametrize("free", [1 << 40, 3 << 20])
def test_a_search_that_dies_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str, text: str, free: int
) -> None:
    real: Callable[..., Any] = cameras.subprocess.Popen

    def dies(command: list[str], **options: Any) -> Any:
        return real([command[0], "-c", f"import os, sys; sys.stderr.write('first\\nlast words\\n'); {end}"], **options)

    monkeypatch.setattr(cameras.subprocess, "Popen", dies)
    monkeypatch.setattr(cameras.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    with pytest.raises(MachineError, match="the search for cameras ended early") as told:
        process(small_photos(tmp_path / "photos"), tmp_path / "output")
    said, _, _ = str(told.value).partition("; 3 MiB are left on the disk")
    assert re.search(text, said) and (said == str(told.value)) == (free > 3 << 20)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    photographed.take(tmp_path / "desk" / "images", 4)
    assert main(["process", "desk"]) == 0
    said = capsys.readouterr().out
    assert "4 of 4 photos placed" in said and "train it: neurfield train data/desk\n" in said
    assert len(read_manifest(tmp_path / "data" / "desk").views) == 4
    assert main(["process", "desk", "--overwrite", "--max-megapixels", "0.1"]) == 0
    assert "train it: neurfield train data/desk --max-megapixels 0.1\n" in capsys.readouterr().out
    assert main(["process", "desk"]) == 2
    assert "data/desk exists; choose another --output, or --overwrite" in capsys.readouterr().err
    assert main(["train", "desk"]) == 2
    assert "neurfield process desk" in capsys.readouterr().err
