# SPDX-License-Identifier: Apache-2.0
"""Poses from files: what is accepted, what is refused and why, and the point that cameras look at."""

import numpy as np
import pytest

from neurfield.cameras import poses
from neurfield.cameras.poses import Focus, rigid_pose
from tests.data.small import circle, look_at, turned


def focus(c2w: np.ndarray) -> Focus:
    """Of photos."""
    return poses.focus(c2w, np.zeros(len(c2w), dtype=bool))


def test_a_rigid_pose_is_kept_and_its_uniform_scale_removed() -> None:
    pose = look_at([3, 1, 2])
    np.testing.assert_allclose(rigid_pose(pose), pose[:3], atol=1e-15)
    scaled = pose.copy()
    scaled[:3, :3] *= 2.5
    np.testing.assert_allclose(rigid_pose(scaled), pose[:3], atol=1e-15)
    np.testing.assert_allclose(rigid_pose(pose[:3].tolist()), pose[:3], atol=1e-15)


def test_a_rounded_rotation_becomes_exactly_orthonormal() -> None:
    rotation = rigid_pose(np.round(look_at([3, 1, 2]), 4))[:, :3]
    np.testing.assert_allclose(rotation.T @ rotation, np.eye(3), atol=1e-14)


def broken(row: int, column: int, value: float) -> np.ndarray:
    pose = look_at([3, 1, 2])
    pose[row, column] = value
    return pose


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (broken(1, 3, np.nan), "not finite: nan in row 1, column 3"),
        (broken(0, 0, np.inf), "not finite: inf in row 0, column 0"),
        (broken(0, 0, 5.0), "not rigid: its axes are off orthonormal"),
        (broken(3, 3, 2.0), "last row of a pose is 0 0 0 1, got 0 0 0 2"),
        (np.diag([1.0, 1.0, -1.0, 1.0]), "mirrored"),
        (np.diag([0.0, 0.0, 0.0, 1.0]), "singular"),
        (np.eye(3), r"got shape \[3, 3\]"),
        ([[1, 2], [3]], "4x4 matrix of numbers"),
        ("identity", "4x4 matrix of numbers"),
        (None, "4x4 matrix"),
    ],
)
def test_other_matrices_are_refused(matrix: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        rigid_pose(matrix)


def test_the_tolerance_is_a_thousandth() -> None:
    """Half of it passes, twice as much does not."""
    for error, accepted in ((5e-4, True), (2e-3, False)):
        pose = np.eye(4)
        pose[0, 1] = error
        if accepted:
            rigid_pose(pose)
        else:
            with pytest.raises(ValueError, match="not rigid"):
                rigid_pose(pose)


def test_focus_finds_the_point_that_all_cameras_look_at() -> None:
    target = (1.0, -2.0, 0.5)
    positions = [[5, 0, 1], [-3, 2, 4], [1, -7, 0.3], [2, 2, 6]]
    c2w = np.stack([look_at(p, target)[:3] for p in positions])
    seen = focus(c2w)
    np.testing.assert_allclose(seen.point, target, atol=1e-12)
    np.testing.assert_allclose(seen.depths, np.linalg.norm(c2w[:, :, 3] - target, axis=1), atol=1e-12)
    assert seen.in_front == 1.0


def test_focus_tells_outward_and_parallel_cameras_apart() -> None:
    inward = np.stack([pose[:3] for pose in circle(8)])
    outward = inward.copy()
    outward[:, :, [0, 2]] *= -1  # turned by half a turn about the up axis
    assert focus(outward).in_front == 0.0
    parallel = np.repeat(inward[:1], 5, axis=0)
    parallel[:, 0, 3] += np.arange(5)
    assert focus(parallel).convergence < 1e-12
    assert focus(inward).convergence > 0.05
    assert np.isfinite(focus(parallel[:1]).point).all()


def test_panoramas_have_no_axis() -> None:
    """Wherever their middles are: the others tell what is looked at, and panoramas see it."""
    c2w = np.stack([pose[:3] for pose in circle(8)])
    is_panorama = np.arange(8) < 3
    c2w[is_panorama] = turned(c2w[is_panorama])
    seen, photos = poses.focus(c2w, is_panorama), focus(c2w[3:])
    np.testing.assert_allclose(seen.point, photos.point, atol=1e-12)
    np.testing.assert_allclose(seen.depths, np.sqrt(17), atol=1e-12)
    assert seen.convergence == photos.convergence and seen.in_front == 1.0 and seen.away == []
    assert seen.first == 3 and seen.aimed.tolist() == (~is_panorama).tolist() and not seen.is_anywhere
    c2w[4:6, :, [0, 2]] *= -1
    assert poses.focus(c2w, is_panorama).away == [4, 5] and poses.focus(c2w, is_panorama).in_front == 0.6


def test_panoramas_alone_look_anywhere() -> None:
    c2w = np.stack([pose[:3] for pose in circle(8)])
    seen = poses.focus(c2w, np.ones(8, dtype=bool))
    np.testing.assert_allclose(seen.point, [0, 0, 1], atol=1e-12)
    np.testing.assert_allclose(seen.depths, 4, atol=1e-12)
    assert seen.is_anywhere and seen.convergence == seen.in_front == seen.first == 0 and seen.away == []
    assert seen.aimed.all()
