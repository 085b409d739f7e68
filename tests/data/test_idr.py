# SPDX-License-Identifier: Apache-2.0
"""Projection matrices in one archive: what they mean, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurfield.data import load_scene, read_manifest
from neurfield.errors import UserError
from tests.data.small import FOCAL, circle, write_images

SPHERE = np.diag([2.0, 2.0, 2.0, 1.0])
SPHERE[:3, 3] = (0.1, -0.2, 0.3)
CAMERA = np.array([[FOCAL, 0, 3.2], [0, 1.1 * FOCAL, 2.4], [0, 0, 1]])  # pixel centres are whole numbers


def projection(pose: np.ndarray, factor: float = 1.0) -> np.ndarray:
    world_to_camera = np.linalg.inv(pose @ np.diag([1.0, -1, -1, 1]))  # y down, looking along +z
    matrix = np.eye(4)
    matrix[:3] = factor * CAMERA @ world_to_camera[:3]
    return matrix


def write_idr(root: Path, n: int = 9, name: str = "cameras_sphere.npz", **changes: Any) -> None:
    write_images(root, n, folder="image")
    arrays = {f"scale_mat_{i}": SPHERE for i in range(n)}
    arrays |= {f"world_mat_{i}": projection(pose, 3.0 if i % 2 else -0.5) for i, pose in enumerate(circle(n))}
    np.savez(root / name, **{key: value for key, value in (arrays | changes).items() if value is not None})


def test_poses_lenses_and_the_sphere(tmp_path: Path) -> None:
    write_idr(tmp_path)
    (tmp_path / "mask").mkdir()
    manifest = read_manifest(tmp_path)
    assert [view.name for view in manifest.views] == [f"image/{i:03d}.png" for i in range(9)]
    for view, pose in zip(manifest.views, circle(9), strict=True):
        np.testing.assert_allclose(view.c2w, pose[:3], atol=1e-9)
        lens = view.intrinsics
        assert (lens.fl_x, lens.fl_y, lens.cx, lens.cy) == pytest.approx((FOCAL, 1.1 * FOCAL, 3.7, 2.9))
    norm = manifest.normalization
    low, high = (norm.scale * (SPHERE[:3, 3] + side * 2.0) + norm.offset for side in (-1, 1))
    np.testing.assert_allclose([low, high], [[0] * 3, [1] * 3], atol=1e-9)
    assert norm.source == "given" and norm.aabb_scale == 4  # cameras two and more radii away, seen before a background
    assert manifest.splits["test"] == [0, 8]
    assert manifest.notes == ["the masks of the object are not used", "every 8th view is for testing"]
    by_archive = load_scene(tmp_path / "cameras_sphere.npz")
    assert len(by_archive.images) == 9 and by_archive.name == manifest.name == tmp_path.name


def test_an_archive_without_a_sphere_has_the_map_of_its_poses(tmp_path: Path) -> None:
    write_idr(tmp_path, name="cameras.npz", **{f"scale_mat_{i}": None for i in range(9)})
    assert read_manifest(tmp_path).normalization.source == "poses"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"world_mat_3": None}, r"cameras_sphere.npz: no world_mat_3 in it"),
        ({"world_mat_9": np.eye(4)}, r"has 10 cameras \(world_mat_0 ...\), image/ has 9 photos"),
        ({"world_mat_2": np.eye(3)}, r"world_mat_2 must be a matrix \[4, 4\] of numbers, got float64 \[3, 3\]"),
        ({"world_mat_2": np.full((4, 4), "x")}, r"world_mat_2 must be a matrix \[4, 4\] of numbers, got <U1 \[4, 4\]"),
        ({"world_mat_2": np.full((4, 4), np.nan)}, r"world_mat_2: the matrix is not finite"),
        ({"world_mat_2": np.zeros((4, 4))}, r"world_mat_2: no projection: its left part is singular"),
        ({"world_mat_2": np.array([[1.0, 0.5, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])}, r"its pixels are skewed by 0.5"),
        ({"scale_mat_0": np.diag([1.0, 2, 1, 1])}, r"scale_mat_0 must be a scale above 0 and a translation"),
    ],
)
def test_what_is_no_camera_is_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    write_idr(tmp_path, **changes)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_broken_archives_are_one_line(tmp_path: Path) -> None:
    write_idr(tmp_path)
    (tmp_path / "cameras_sphere.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"cameras_sphere\.npz: not a readable NumPy archive"):
        read_manifest(tmp_path)
