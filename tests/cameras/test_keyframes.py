# SPDX-License-Identifier: Apache-2.0
"""Key frames: the path runs through them, loops, and survives its file; other programs' files are read."""

import json
import math

import pytest
import torch

from neurfield.cameras.keyframes import KeyframePath, read_keyframes
from neurfield.cameras.path_files import read_camera_path
from neurfield.errors import UserError
from tests.scenes import orbit

POSES = orbit(5)
FOV = torch.tensor([40.0, 50.0, 60.0, 50.0, 45.0])


def fov_of(cameras) -> torch.Tensor:
    return 2 * torch.rad2deg(torch.atan(cameras.sizes[:, 1] / 2 / cameras.intrinsics[:, 0]))


@pytest.mark.parametrize("loop", [False, True])
def test_runs_through_every_key(loop: bool):
    n_parts = 5 if loop else 4
    frames = 10 * n_parts + (0 if loop else 1)
    path = KeyframePath(POSES, FOV, frames / 10, 10.0, loop, (64, 48))
    cameras = path.cameras()
    assert len(cameras) == frames
    at_keys = cameras[torch.arange(5) * 10]
    assert (at_keys.c2w - POSES).abs().max() < 1e-4
    assert (fov_of(at_keys) - FOV).abs().max() < 1e-3
    rotations = cameras.c2w[:, :, :3]
    assert (rotations @ rotations.transpose(1, 2) - torch.eye(3)).abs().max() < 1e-5
    # no jumps: a step is a small part of the whole way
    steps = cameras.c2w[1:, :, 3] - cameras.c2w[:-1, :, 3]
    assert steps.norm(dim=1).max() < 3 * steps.norm(dim=1).mean()
    if loop:
        last = cameras.c2w[0, :, 3] - cameras.c2w[-1, :, 3]
        assert last.norm() < 2 * steps.norm(dim=1).max()


def test_one_key_stands_still():
    cameras = KeyframePath(POSES[:1], FOV[:1], 1.0, 5.0).cameras()
    assert (cameras.c2w - POSES[:1]).abs().max() < 1e-5


def test_a_file_gives_the_keys_back_and_plays_as_nerfstudios(tmp_path):
    path = KeyframePath(POSES, FOV, 2.0, 10.0, True, (64, 48))
    file = tmp_path / "path.json"
    file.write_text(path.dumps())
    again = read_keyframes(file)
    assert torch.allclose(again.poses, POSES, atol=1e-6) and torch.allclose(again.fov, FOV)
    assert (again.seconds, again.fps, again.loop, again.size) == (2.0, 10.0, True, (64, 48))
    played = read_camera_path(file)
    assert torch.allclose(played.cameras.c2w, path.cameras().c2w, atol=1e-5) and played.fps == 10.0


def test_a_path_of_panoramas_stays_one(tmp_path):
    path, file = KeyframePath(POSES, FOV, 2.0, 10.0, size=(64, 32), time=0.25, panorama=True), tmp_path / "path.json"
    file.write_text(path.dumps())
    assert json.loads(file.read_text())["camera_type"] == "equirectangular"
    cameras, again = read_camera_path(file).cameras, read_keyframes(file)
    assert cameras.is_panorama.all() and again.panorama and again.cameras().is_panorama.all()
    assert torch.allclose(again.fov, FOV) and cameras.times.tolist() == [0.25] * 20
    torch.testing.assert_close(cameras.intrinsics[3], torch.tensor([32 / math.pi, 32 / math.pi, 32, 16]))
    content = json.loads(file.read_text())
    del content["keyframes"]
    for frame in content["camera_path"]:
        del frame["fov"]
    file.write_text(json.dumps(content))
    assert read_keyframes(file).fov.tolist() == pytest.approx([90.0] * 20)


@pytest.mark.parametrize(
    "keyframes", [None, [], "text", [{"matrix": "[1, 2]", "fov": 50}], [{"matrix": [0.0] * 16, "fov": 50}]]
)
def test_frames_stand_in_for_keys_that_cannot_be_used(tmp_path, keyframes):
    content = json.loads(KeyframePath(POSES, FOV, 10.0, 10.0).dumps())
    content["keyframes"] = keyframes
    file = tmp_path / "path.json"
    file.write_text(json.dumps(content))
    path = read_keyframes(file)
    assert len(path.poses) == 24 and torch.allclose(path.poses[0], POSES[0], atol=1e-5)


def test_numbers_out_of_range():
    with pytest.raises(UserError, match="no keyframes yet"):
        KeyframePath(torch.empty(0, 3, 4), torch.empty(0)).cameras()
    with pytest.raises(UserError, match=r"1 \.\.\. 100000 frames"):
        KeyframePath(POSES, FOV, 1e6, 30.0)
    with pytest.raises(UserError, match="pixels wide and high"):
        KeyframePath(POSES, FOV, size=(0, 10))


def test_field_of_view_is_vertical():
    cameras = KeyframePath(POSES[:1], torch.tensor([90.0]), 1.0, 1.0, size=(300, 100)).cameras()
    assert float(cameras.intrinsics[0, 1]) == pytest.approx(50 / math.tan(math.radians(45)), rel=1e-5)
