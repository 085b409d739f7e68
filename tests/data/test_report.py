# SPDX-License-Identifier: Apache-2.0
"""The report of `neurfield data info`, its warnings and its picture."""

import time
import tracemalloc
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurfield.checks import rounded
from neurfield.cli.main import main
from neurfield.data import LoadOptions, Normalization, read_manifest
from neurfield.data.camera_picture import BOX, CUBE, HEIGHT, SPLIT_COLORS, WIDTH, draw
from neurfield.data.lens import Intrinsics
from neurfield.data.report import Report, describe
from neurfield.data.splits import every_nth
from neurfield.data.statistics import camera_figures
from tests.data.small import circle, frames, pixels, synthetic, transforms, with_panoramas, write_images, write_json


def report(folder: Path) -> Report:
    return describe(read_manifest(folder, LoadOptions()))


def warned(folder: Path, words: str) -> bool:
    return any(words in warning for warning in report(folder).warnings)


def even(folder: Path, n: int = 12, channels: int = 3) -> dict:
    """A healthy capture: images of equal brightness."""
    content = transforms(folder, n=n, channels=channels)
    for i in range(n):
        Image.fromarray(np.full((6, 8, 3), 120 + i, np.uint8)).save(folder / f"images/{i:03d}.png")
    return content


def test_healthy_data_have_no_warnings(tmp_path: Path) -> None:
    even(tmp_path)
    result = report(tmp_path)
    assert result.warnings == []
    rows = dict(result.rows)
    assert rows["views"] == "10 train, 0 val, 2 test"
    assert rows["images"] == "12 PNG (RGB) of 8 x 6"
    assert rows["cameras"] == "12 pinhole"
    assert rows["focal length"] == "10 x 10 pixels, field of view 43.6 x 33.4 degrees"
    assert rows["principal point"] == "4, 3 pixels"
    assert "100% of the cameras face it" in rows["look at"]
    assert rows["distance to it"] == "4.123" and rows["camera spacing"].startswith("8 at most")
    assert result.notes == ["no splits in the file: every 8th view is for testing"]
    assert "  note: no splits" in result.text() and result.text().startswith(tmp_path.name)


def test_few_views(tmp_path: Path) -> None:
    even(tmp_path, n=5)
    assert warned(tmp_path, "only 4 views to train on")


def test_identical_cameras(tmp_path: Path) -> None:
    content = even(tmp_path)
    for frame in content["frames"]:
        frame["transform_matrix"] = content["frames"][0]["transform_matrix"]
    write_json(tmp_path / "transforms.json", content)
    assert warned(tmp_path, "all cameras stand at the same place")


def test_parallel_cameras(tmp_path: Path) -> None:
    content = even(tmp_path)
    for i, frame in enumerate(content["frames"]):
        frame["transform_matrix"] = np.eye(4).tolist()
        frame["transform_matrix"][0][3] = float(i)
    write_json(tmp_path / "transforms.json", content)
    assert warned(tmp_path, "all cameras look almost the same way")


def test_a_camera_that_looks_away(tmp_path: Path) -> None:
    content = even(tmp_path)
    for row in content["frames"][5]["transform_matrix"][:3]:
        row[0], row[2] = -row[0], -row[2]
    write_json(tmp_path / "transforms.json", content)
    assert warned(tmp_path, "1 of 12 cameras look away from the common centre (images/005.png)")


def test_repeated_poses(tmp_path: Path) -> None:
    content = even(tmp_path)
    content["frames"][7]["transform_matrix"] = content["frames"][2]["transform_matrix"]
    write_json(tmp_path / "transforms.json", content)
    assert warned(tmp_path, "1 views repeat a pose (images/007.png is where images/002.png is)")
    for i, frame in enumerate(content["frames"]):  # the same place at another time is how moving scenes are filmed
        frame["time"] = i / 100
    write_json(tmp_path / "transforms.json", content)
    assert not warned(tmp_path, "repeat a pose")


def test_principal_point_and_focal_lengths(tmp_path: Path) -> None:
    content = even(tmp_path)
    write_json(tmp_path / "transforms.json", {**content, "cx": 5.5, "fl_y": 20.0})
    assert warned(tmp_path, "principal point is up to 19% of the image off its centre")
    assert warned(tmp_path, "fl_x and fl_y differ by up to 100%")


@dataclass(frozen=True)
class Posed:
    c2w: np.ndarray
    intrinsics: Intrinsics


def test_thousands_of_cameras_take_little_memory_and_time() -> None:
    n = 3000
    c2w, lens = np.stack(circle(n))[:, :3], Intrinsics(8, 6, 9, 9, 4, 3)
    tracemalloc.start()
    figures = camera_figures([Posed(pose, lens) for pose in c2w])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100e6  # all differences at once are 216 MB
    assert figures.baseline == pytest.approx(8) and figures.spacing == pytest.approx(8 * np.sin(np.pi / n))
    start = time.monotonic()
    parts = every_nth(100_000, 8)
    assert time.monotonic() - start < 5  # 15 s where each view looks through all test views
    assert len(parts["train"]) == 87_500 and parts["test"][:2] == [0, 8]


def test_an_image_of_another_exposure(tmp_path: Path) -> None:
    even(tmp_path)
    Image.fromarray(np.full((6, 8, 3), 250, np.uint8)).save(tmp_path / "images/004.png")
    assert warned(
        tmp_path, "1 of 12 images are more than 1 stop brighter or darker than their neighbours (images/004.png"
    )


def test_alpha_that_says_nothing(tmp_path: Path) -> None:
    even(tmp_path)
    opaque = np.full((6, 8, 4), 255, np.uint8)
    Image.fromarray(opaque).save(tmp_path / "images/003.png")
    assert warned(tmp_path, "an alpha channel, but none of their pixels is transparent")
    assert warned(tmp_path, "some images have an alpha channel and some have none")
    opaque[:] = 0
    Image.fromarray(opaque).save(tmp_path / "images/003.png")
    assert warned(tmp_path, "1 images have no opaque pixel (images/003.png)")


def test_a_map_that_misses_the_scene(tmp_path: Path) -> None:
    content = even(tmp_path)
    write_json(tmp_path / "transforms.json", {**content, "scale": 0.3, "offset": [2.0, 0.5, 0.5]})
    assert warned(tmp_path, "outside of the unit cube (2.00, 0.50")


def test_masks_and_times_are_counted(tmp_path: Path) -> None:
    content = even(tmp_path)
    Image.fromarray(pixels(0)[:, :, 0]).save(tmp_path / "mask.png")
    for i, frame in enumerate(content["frames"]):
        frame["time"] = i / 11
        if i < 3:
            frame["mask_path"] = "mask.png"
    write_json(tmp_path / "transforms.json", content)
    rows = dict(report(tmp_path).rows)
    assert rows["masks"] == "for 3 of 12 views" and rows["times"].startswith("12 different, 0 ... ")


def test_the_picture_shows_what_is_there(tmp_path: Path) -> None:
    synthetic(tmp_path, {"train": 8, "val": 3, "test": 5})
    image = np.asarray(draw(read_manifest(tmp_path)))
    assert image.shape == (HEIGHT, WIDTH, 3)
    for color in (*SPLIT_COLORS.values(), CUBE):
        near = np.abs(image.astype(int) - color).max(axis=2) < 60
        assert near[:700, : WIDTH // 2].sum() > 50 and near[:700, WIDTH // 2 :].sum() > 50, color
    assert not (np.abs(image.astype(int) - BOX).max(axis=2) < 4).any()  # the field's box is the unit cube here


def test_panoramas_look_at_nothing_and_are_balls_in_the_picture(tmp_path: Path) -> None:
    content = even(tmp_path)
    poses = [
        np.roll(np.array(frame["transform_matrix"])[:3, :3], i, axis=1) for i, frame in enumerate(content["frames"])
    ]
    for frame, axes in zip(content["frames"], poses, strict=True):
        for row, values in zip(frame["transform_matrix"], axes.tolist(), strict=False):
            row[:3] = values
    write_json(tmp_path / "transforms.json", {"camera_model": "EQUIRECTANGULAR", "frames": content["frames"]})
    result = report(tmp_path)
    rows = dict(result.rows)
    assert rows["cameras"] == "12 equirectangular" and "look at" not in rows and "distance to it" not in rows
    assert rows["panoramas"] == "field of view 360 x 180 degrees" and "focal length" not in rows
    # of 8 x 6 pixels, not twice as wide as high
    assert not result.warnings  # its size says all
    manifest = read_manifest(tmp_path)
    image = np.asarray(draw(manifest)).astype(int)
    flat = replace(manifest, views=[replace(v, intrinsics=Intrinsics(8, 6, 9, 9, 4, 3)) for v in manifest.views])
    assert (np.abs(image - np.asarray(draw(flat))).max(axis=2) > 60).sum() > 1000


def test_panoramas_amid_photos_change_nothing_of_what_is_looked_at(tmp_path: Path) -> None:
    content = even(tmp_path)
    photos = report(tmp_path)
    for i in range(5):  # where they are brighter, it is because they see more
        Image.fromarray(np.full((6, 8, 3), 220, np.uint8)).save(tmp_path / f"images/{i:03d}.png")
    mixed = report(with_panoramas(tmp_path, content, [0, 1, 2, 3, 4]))
    assert mixed.warnings == photos.warnings == []
    rows = dict(mixed.rows)
    assert rows["look at"].endswith("100% of the cameras face it")
    for name in ("distance to it", "camera spacing"):
        assert rows[name] == dict(photos.rows)[name]
    assert rows["panoramas"] == "field of view 360 x 180 degrees"
    for name in ("focal length", "principal point"):
        assert rows[name] == dict(photos.rows)[name]


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_the_picture_fits_any_scale(tmp_path: Path, scale: float) -> None:
    poses = circle(6)
    for pose in poses:
        pose[:3, 3] *= scale
    write_images(tmp_path, 6)
    write_json(tmp_path / "transforms.json", {"camera_angle_x": 0.7, "frames": frames(poses)})
    image = np.asarray(draw(read_manifest(tmp_path))).astype(int)
    assert (np.abs(image - SPLIT_COLORS["train"]).max(axis=2) < 60).sum() > 1000


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cup").mkdir()
    even(tmp_path / "cup")
    monkeypatch.chdir(tmp_path)
    assert main(["data", "info", "cup"]) == 0
    printed = capsys.readouterr().out
    assert "MiB, at most" in printed  # as `train` says it
    assert "12 PNG (RGB) of 8 x 6" in printed and "picture" not in printed
    assert [path.name for path in tmp_path.iterdir()] == ["cup"]  # nothing is written that was not asked for
    assert main(["data", "info", "--output", "new/a.png", "cup", "--test-every", "4", "--aabb_scale", "2"]) == 0
    printed = capsys.readouterr().out
    assert "9 train, 0 val, 3 test" in printed and "picture of the cameras: new/a.png" in printed
    with Image.open(tmp_path / "new/a.png") as image:
        assert image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["info", "nowhere"], 2, "neurfield: nowhere: no such file or folder"),
        (["info", "cup", "--output", "a.gif"], 2, "expected a name that ends in .png"),
        (["info", "cup", "--aabb-scale", "3"], 2, "power of two"),
        (["info", "cup", "--output", "/proc/a.png"], 1, "/proc/a.png: cannot write"),
        (["make", "lighthous"], 2, "unknown procedural scene 'lighthous', did you mean 'lighthouse'?"),
    ],
)
def test_command_errors_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "cup").mkdir()
    even(tmp_path / "cup")
    monkeypatch.chdir(tmp_path)
    try:
        found = main(["data", *words])
    except SystemExit as ended:  # options that are checked while the command line is read
        found = int(ended.code or 0)
    error = capsys.readouterr().err
    assert found == code and message in error


def test_unit_rows_are_in_world_units(tmp_path: Path) -> None:
    transforms(tmp_path, n=12, scale=0.25, offset=[0.5, 0.25, 0.0], aabb_scale=2)
    manifest = read_manifest(tmp_path)
    assert manifest.normalization == Normalization(0.25, (0.5, 0.25, 0.0), 2, "given")
    rows = dict(describe(manifest).rows)
    assert rows["unit cube"] == "[-2, 2] x [-1, 3] x [0, 4] in world units"
    assert rows["field box"] == "2 unit cubes wide"


def test_what_is_zero_but_for_rounding_is_shown_as_zero(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = even(tmp_path)
    for i, frame in enumerate(content["frames"]):  # a circle around almost the origin
        frame["transform_matrix"][0][3] += 2.78e-16 + 1e-9 * (-1) ** i
    write_json(tmp_path / "transforms.json", content | {"scale": 0.25, "offset": [0.5, 2.78e-16, 0.5]})
    rows = dict(report(tmp_path).rows)
    assert rows["look at"].startswith("(0, 0, 0), ")
    assert rows["unit space"].startswith("0.25 * x + (0.5, 0, 0.5), ")
    assert rows["unit cube"] == "[-2, 2] x [0, 4] x [-2, 2] in world units"
    assert main(["train", str(tmp_path), "--output-dir", "x", "--eval-split", "val"]) == 2
    assert "x * 0.25 + (0.5, 0, 0.5), box" in capsys.readouterr().out
    assert rounded([1e-3, -2e-6, 5e-7, -5e-7, -0.0, np.nan], 3, 1) == ["0.001", "-2e-06", "0", "0", "0", "nan"]
