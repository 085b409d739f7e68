# SPDX-License-Identifier: Apache-2.0
"""The automatic map into unit space."""

import numpy as np
import pytest
import torch

from neurfield.cameras.poses import focus
from neurfield.data import normalize
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Normalization
from tests.data.small import circle, look_at, turned

TAN = 0.4


def choose(poses: list[np.ndarray], has_alpha: bool = False) -> tuple[Normalization, list[str]]:
    c2w = np.stack([pose[:3] for pose in poses])
    return normalize.from_poses(c2w, np.full((len(poses), 2), [TAN, TAN * 1.5]), has_alpha)


@pytest.mark.parametrize("size", [1e-2, 1.0, 300.0])
def test_what_the_cameras_see_fills_the_unit_cube(size: float) -> None:
    target = (5 * size, -size, 2 * size)
    angles = np.linspace(0, 6, 12)
    poses = [
        look_at([target[0] + 4 * size * np.cos(a), target[1] + 4 * size * np.sin(a), size], target) for a in angles
    ]
    norm, notes = choose(poses)
    assert norm.source == "poses" and not notes
    torch.testing.assert_close(norm.to_unit(torch.tensor(target)), torch.full((3,), 0.5), atol=1e-4, rtol=0)
    distance = np.hypot(4, 1) * size
    assert norm.scale == pytest.approx(0.5 / (distance * TAN), rel=1e-6)


def test_the_box_holds_all_cameras() -> None:
    poses = [*circle(12), look_at([0, 30, 1])]
    norm, _ = choose(poses)
    positions = torch.tensor(np.stack([pose[:3, 3] for pose in poses]))
    low, high = norm.aabb[0], norm.aabb[3]
    unit = norm.to_unit(positions)
    assert (unit > low).all() and (unit < high).all()
    assert norm.aabb_scale > choose(circle(12))[0].aabb_scale >= 2


def test_cut_out_objects_need_no_room_behind() -> None:
    assert choose(circle(12), has_alpha=True)[0].aabb_scale == 1


def test_parallel_cameras_are_a_guess_and_say_so() -> None:
    poses = []
    for x in np.linspace(-1, 1, 5):
        pose = np.eye(4)
        pose[0, 3] = x
        poses.append(pose)
    norm, notes = choose(poses)
    assert "almost parallel" in notes[0] and norm.aabb_scale == normalize.UNKNOWN_DEPTH_AABB_SCALE
    center = norm.to_world(torch.full((3,), 0.5))
    assert center[2] < -2  # in front of cameras that look along -z


def test_panoramas_amid_parallel_cameras_do_not_turn_the_guess() -> None:
    poses = [np.eye(4)[:3] for _ in range(8)]
    for x, pose in zip(np.linspace(-1, 1, 8), poses, strict=True):
        pose[0, 3] = x
    some = np.full((8, 2), TAN)
    some[2:] = np.inf
    for pose in poses[2:]:
        pose[:, [0, 2]] *= -1  # the other way
    norm, notes = normalize.from_poses(np.stack(poses), some, False)
    assert "almost parallel" in notes[0]
    assert norm.to_world(torch.full((3,), 0.5))[2] < -2  # before the two that look along -z


def test_outward_cameras_are_a_guess_and_say_so() -> None:
    poses = circle(8)
    for pose in poses:
        pose[:, [0, 2]] *= -1
    norm, notes = choose(poses)
    assert "100 % of the cameras look outward" in notes[0]
    torch.testing.assert_close(norm.to_unit(torch.tensor([0.0, 0, 1])), torch.full((3,), 0.5), atol=1e-5, rtol=0)


def test_panoramas_look_nowhere_in_particular() -> None:
    """Alone they are a guess around where they stand; of others the rest tells what is looked at."""
    c2w = np.stack([pose[:3] for pose in circle(8)])
    around = np.full((8, 2), np.inf)
    norm, notes = normalize.from_poses(c2w, around, False)
    assert "panoramas look everywhere, so the size of the scene is a guess" in notes[0]
    assert norm.scale == pytest.approx(0.5 / (4 * 4)) and norm.aabb_scale == normalize.UNKNOWN_DEPTH_AABB_SCALE
    torch.testing.assert_close(norm.to_unit(torch.tensor([0.0, 0, 1])), torch.full((3,), 0.5), atol=1e-5, rtol=0)
    assert normalize.synthetic(c2w, around, False)[0] == norm
    some = np.full((8, 2), TAN)
    some[2], c2w[2, :, 2] = np.inf, -c2w[2, :, 2]
    norm, notes = normalize.from_poses(c2w, some, False)
    assert not notes
    torch.testing.assert_close(norm.to_unit(torch.zeros(3)), torch.full((3,), 0.5), atol=1e-5, rtol=0)


@pytest.mark.parametrize("poses", [circle(1), circle(1) * 5])
def test_one_camera_or_one_place(poses: list[np.ndarray]) -> None:
    norm, notes = choose(poses)
    assert np.isfinite([norm.scale, *norm.offset]).all() and norm.scale > 0 and notes


def test_round_trip() -> None:
    norm = Normalization(0.3, (0.1, 0.2, 0.9), 4)
    x = torch.randn(10, 3, dtype=torch.float64)
    torch.testing.assert_close(norm.to_world(norm.to_unit(x)), x)
    assert norm.aabb == (-1.5, -1.5, -1.5, 2.5, 2.5, 2.5)


def test_where_the_middles_of_panoramas_are_does_not_matter() -> None:
    """Around the box of Blender's layouts, and where a file's scale is looked for."""
    c2w = np.stack([pose[:3] for pose in circle(8)])
    some = np.full((8, 2), TAN)
    some[:3], c2w[:3] = np.inf, turned(c2w[:3])
    c2w[:3, :, 3] += [0, 0, 40]
    assert normalize.synthetic(c2w, some, True) == (normalize.SYNTHETIC, [])
    seen = focus(c2w, normalize.is_panorama(some))
    chosen, notes = normalize.apply_given(normalize.SYNTHETIC, [], seen, {"aabb_scale": 4}, LoadOptions(), "a file")
    assert (chosen.scale, chosen.source, notes) == (0.33, "given", [])


@pytest.mark.parametrize("center", [(0, 0, 0), (10.3, -7.7, 1.6), (691234.56, 5334567.25, 512.0)])
def test_what_float32_makes_of_one_place_is_one_place(center: tuple[float, float, float]) -> None:
    """As programs that write float32 matrices, or invert them, leave it: rounding is not how far views are apart."""
    c2w = np.stack(circle(16))[:, :3] * [-1, 1, -1, 1]
    c2w[:, :, :3] = c2w[:, :, :3].astype(np.float32)
    shift = np.einsum("nji,j->ni", c2w[:, :, :3], center).astype(np.float32)
    c2w[:, :, 3] = np.einsum("nij,nj->ni", c2w[:, :, :3], shift)
    assert any(center) == (np.ptp(c2w[:, :, 3], axis=0).max() > 0)
    found, notes = normalize.from_poses(c2w, np.full((16, 2), np.inf), has_alpha=False)
    assert found.scale == 1 / 8 and "panoramas" in notes[0]


def test_positions_are_mapped_where_they_are() -> None:
    norm = Normalization(2.0, (0.5, 0.5, 0.5), 1)
    x = torch.zeros(4, 3, device="meta")  # as of any device that is not the CPU
    assert norm.to_unit(x).shape == norm.to_world(x).shape == (4, 3)
