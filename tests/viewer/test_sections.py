# SPDX-License-Identifier: Apache-2.0
"""Pictures, clips and volumes on their planes: the right value at the right place, at any zoom, beside the data."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import neurfield
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.paths import look_at
from neurfield.data import signals
from neurfield.data.signals.grid import GridInfo
from neurfield.errors import UserError
from neurfield.viewer import shown_data, shown_run
from neurfield.viewer.look import Look
from neurfield.viewer.sections import SectionStage
from neurfield.viewer.show_grid import shown_grid
from tests.signals.files import picture
from tests.viewer.conftest import VIDEO_PICTURES, volume


def no_step(part: float) -> None:
    pass


def straight(width: int, height: int, x: float = 0.0, y: float = 0.0, tall: float = 1.0) -> Cameras:
    """A camera before a picture whose middle is at x, y and whose height is `tall`."""
    distance = 2.0
    pose = look_at(torch.tensor([[x, y, distance]]), torch.tensor([x, y, 0.0]), (0.0, 1.0, 0.0))
    return Cameras.pinhole(pose, height * distance / tall, width, height)


def painted(shown, camera, **look) -> np.ndarray:
    return (shown.stage.paint(camera, Look(**look), no_step, True).image * 255).numpy()


def test_a_file_is_seen_pixel_by_pixel(signal_files):
    shown = shown_data(signal_files["image"])
    # 128 x 96 with a longer side of 1, seen at its own size
    assert np.abs(painted(shown, straight(128, 96, tall=0.75)) - picture(96, 128)).max() < 0.01
    around = painted(shown, straight(128, 96, tall=1.5))
    assert np.ptp(around[:20], axis=(0, 1)).max() == 0 and np.ptp(around[30:60, 40:90], axis=(0, 1)).min() > 50


@pytest.mark.parametrize("shape", [(1, 64), (64, 1), (1, 4000)])
def test_a_strip_is_seen_all_over(shape, tmp_path):
    values = np.linspace(60, 250, max(shape)).astype(np.uint8).reshape(shape)
    Image.fromarray(values).save(tmp_path / "strip.png")
    trained = neurfield.train_signal(tmp_path / "strip.png", max_num_iterations=100)
    for shown in (shown_run(trained), shown_data(tmp_path / "strip.png")):
        wide, tall = (200, 1) if shape[0] == 1 else (1, 200)
        thin = max(min(shape) / max(shape), 1 / 200)
        edge = 0.49 * thin  # all but off the strip
        for place in (-edge, 0.0, edge):
            x, y = (0.0, place) if wide > 1 else (place, 0.0)
            seen = painted(shown, straight(wide, tall, x, y, 1.0 if tall > 1 else 1 / 200))[..., 0].reshape(-1)
            assert np.abs(seen - np.linspace(60, 250, 200)).max() < 12, (shape, place)


def test_a_field_is_like_its_file_and_finer_than_it(signal_runs):
    shown = shown_run(signal_runs["image"])
    assert shown.stage.controls.is_flat and list(shown.stage.modes) == ["colour", "error"]
    assert np.abs(painted(shown, straight(128, 96, tall=0.75)) - picture(96, 128)).mean() < 5
    # 2.5 pixels of the file high: the data are blocks, the field is not
    near = straight(60, 40, x=0.2, y=-0.2, tall=2.5 / 128)
    field, data = painted(shown, near), painted(shown, near, split=1.0)
    assert len(np.unique(data.reshape(-1, 3), axis=0)) <= 15 < len(np.unique(field.reshape(-1, 3), axis=0))


def test_split_and_error(signal_runs):
    shown, camera = shown_run(signal_runs["image"]), straight(128, 96, tall=0.75)
    half = painted(shown, camera, split=0.5)
    assert np.abs(half[:, 66:] - picture(96, 128)[:, 66:]).max() < 0.01  # the data on the right
    assert np.abs(half[:, :62] - painted(shown, camera)[:, :62]).max() == 0
    error = painted(shown, camera, mode="error")
    assert error.mean() < 80  # dark
    wrong = shown_grid(lambda x: torch.zeros(len(x), 3), shown.stage.info, shown.stage.data)
    assert painted(wrong, camera, mode="error").mean() > 150


def test_depth_is_along_the_axis(signal_runs):
    depth = shown_run(signal_runs["image"]).stage.paint(straight(60, 60), Look(with_depth=True), no_step, True).depth
    assert float(depth[30, 30]) == pytest.approx(2.0) and float(depth[0, 30]) == 0  # above the picture is nothing


def test_a_video_moves(signal_runs, signal_files):
    shown = shown_run(signal_runs["video"])
    controls = shown.stage.controls
    assert (controls.n_frames, controls.fps, controls.is_flat) == (VIDEO_PICTURES, 6.0, True)
    clip = signals.read(signal_files["video"]).values
    camera = straight(32, 16, tall=0.5)
    for frame in (0, VIDEO_PICTURES - 1):
        time = (frame + 0.5) / VIDEO_PICTURES
        assert np.abs(painted(shown, camera, time=time) - clip[frame]).mean() < 12
        assert np.abs(painted(shown, camera, time=time, split=1.0) - clip[frame]).max() < 0.01
    assert np.abs(painted(shown, camera) - painted(shown, camera, time=0.9)).mean() > 3


def across(frame, axis: int, size: float = 1.1) -> Cameras:
    """A camera that looks against an axis of the world at the middle of the unit cube."""
    middle = frame.to_world(torch.full((3,), 0.5))
    back = torch.eye(3)[axis]
    up = (0.0, 0.0, 1.0) if axis != 2 else (0.0, 1.0, 0.0)
    pose = look_at((middle + 3 * back / frame.scale)[None], middle, up)
    return Cameras.pinhole(pose, 40 * 3 / size, 40, 40)


def test_a_volume_is_cut_where_it_should_be(signal_files):
    shown = shown_data(signal_files["volume"])
    assert shown.stage.controls.sections == (24, 20, 16) and not shown.stage.controls.is_flat
    values = volume()
    for axis, place in ((0, 3), (0, 20), (1, 2), (2, 14)):
        sections = [None] * 3
        sections[axis] = (place + 0.5) / values.shape[axis]
        image = painted(shown, across(shown.frame, axis), sections=tuple(sections), window=(0.0, 1.0))
        # the picture's x and y are axes of the array, and the middle pixels look at the middle of the volume
        right, up = {0: (1, 2), 1: (0, 2), 2: (0, 1)}[axis]
        for i, j in ((0.3, 0.3), (0.6, 0.7), (0.2, 0.8)):
            where = [place] * 3
            where[right], where[up] = int(i * values.shape[right]), int(j * values.shape[up])
            world = shown.stage.world_from_box @ torch.tensor(
                [*((w + 0.5) / n for w, n in zip(where[::-1], values.shape[::-1], strict=True)), 1.0]
            )
            pose = across(shown.frame, axis)
            local = (world - pose.c2w[0, :, 3]) @ pose.c2w[0, :, :3]
            column = 20 + float(local[0] / -local[2] * pose.intrinsics[0, 0])
            row = 20 - float(local[1] / -local[2] * pose.intrinsics[0, 1])
            seen = image[int(row), int(column)]
            # a pixel is 0.7 of a sample wide; values change by 0.026 a sample along x
            assert abs(seen[0] / 255 - values[tuple(where)]) < 0.06, (axis, place, i, j)


def test_the_nearest_section_hides_the_others_and_may_be_left_out(signal_files):
    shown = shown_data(signal_files["volume"])
    camera = across(shown.frame, 0)
    both = painted(shown, camera, sections=(0.9, 0.5, 0.5), window=(0.0, 1.0))
    front = painted(shown, camera, sections=(0.9, None, None), window=(0.0, 1.0))
    assert np.abs(both - front).max() < 0.01
    assert abs(front[20, 20, 0] / 255 - 0.6 * 21 / 23) < 0.03
    assert np.ptp(painted(shown, camera, sections=(None, None, None)), axis=(0, 1)).max() == 0


def test_the_window_makes_black_and_white(signal_files):
    shown = shown_data(signal_files["volume"])
    look = {"sections": (0.5, None, None)}  # its value is 0.313
    camera = across(shown.frame, 0)
    assert painted(shown, camera, window=(0.32, 0.4), **look)[20, 20].max() == 0
    assert painted(shown, camera, window=(0.1, 0.2), **look)[20, 20].min() == 255


def test_a_volume_stands_as_its_affine_map_says():
    info = GridInfo(
        "head", ".nii", (4, 6, 8), 1, "float32", 0.0, 1.0, affine=(-2, 0, 0, 10, 0, 3, 0, 20, 0, 0, 1, 30, 0, 0, 0, 1)
    )
    shown = shown_grid(lambda x: x[:, :1], info)
    # index (i, j, k) is at (10 - 2 i, 20 + 3 j, 30 + k); the box has k first: (k + 1/2) / 8, (j + 1/2) / 6, ...
    for index in ((0, 0, 0), (3, 5, 7)):
        box = torch.tensor([(n + 0.5) / size for n, size in zip(index[::-1], (8, 6, 4), strict=True)] + [1.0])
        expected = torch.tensor([10.0 - 2 * index[0], 20.0 + 3 * index[1], 30.0 + index[2]])
        assert torch.allclose(shown.stage.world_from_box @ box, expected, atol=1e-5)
    assert 1 / shown.frame.scale == pytest.approx(18.0)  # the box is 8 x 18 x 8
    for broken in ((0.0,) * 16, (float("nan"),) * 16):
        box = shown_grid(lambda x: x[:, :1], replace(info, affine=broken)).stage.world_from_box
        assert torch.isfinite(box).all() and torch.linalg.det(box[:, :3]).abs() > 0.1


def test_alpha_and_light():
    def stage(dtype: str, value: list[float]) -> SectionStage:
        info = GridInfo("x", "", (8, 8), len(value), dtype, 0.0, 1.0)
        return shown_grid(lambda x: torch.tensor(value).expand(len(x), -1), info).stage

    def middle(stage: SectionStage, **look: object) -> list[float]:
        return stage.paint(straight(9, 9, tall=0.5), Look(**look), no_step, True).image[4, 4].tolist()

    over = middle(stage("uint8", [1.0, 0.0, 0.0, 0.5]), background=(0.0, 1.0, 0.0))
    assert over == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    assert middle(stage("float32", [0.2140411])) == pytest.approx([0.5] * 3, abs=1e-4)  # linear light
    assert middle(stage("uint8", [0.2140411])) == pytest.approx([0.2140411] * 3, abs=1e-4)


def test_what_a_step_raises_ends_the_picture(signal_runs):
    class Enough(Exception):
        pass

    def step(part: float) -> None:
        raise Enough

    for kind in ("image", "video", "volume"):
        with pytest.raises(Enough):
            shown_run(signal_runs[kind]).stage.paint(straight(20, 20), Look(), step, True)


def test_data_that_are_gone_are_one_line(signal_runs):
    run = signal_runs["image"]
    gone = type(run)(replace(run.config, data="/nowhere/p.png"), run.info, run.field, run.step)
    shown = shown_run(gone)
    painted(shown, straight(20, 20))
    with pytest.raises(UserError, match=r"/nowhere/p\.png"):
        painted(shown, straight(20, 20), split=0.5)


def test_the_first_view_shows_all_of_a_picture(signal_files):
    home = shown_data(signal_files["image"]).home
    assert home.position[:2] == (0.0, 0.0) and home.up == (0.0, 1.0, 0.0)
    height = 2 * home.position[2] * math.tan(home.fov / 2)
    assert height > 0.75 and height * 4 / 3 > 1.0
