# SPDX-License-Identifier: Apache-2.0
"""Checks and geometry of camera-to-world matrices, in float64 on the host.

A pose is `[3, 4]`, columns right, up, back (OpenGL) and position. Nothing here is differentiable.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Entries of files written with six digits are off by 1e-6; a rotation that is off by more than this was not a rotation.
ORTHONORMAL_TOLERANCE = 1e-3

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def rigid_pose(matrix: object) -> Array:
    """Checks a camera-to-world matrix read from a file and returns it as a rigid `[3, 4]` pose.

    A uniform scale of the axes is removed (some exporters leave one in) and the rotation is replaced by the nearest
    exact one.

    Raises:
        ValueError: what was found instead, without naming file or frame (the reader knows them).
    """
    try:
        pose = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError("expected a 4x4 matrix of numbers") from None
    if pose.shape not in ((4, 4), (3, 4)):
        raise ValueError(f"expected a 4x4 matrix, got shape {list(pose.shape)}")
    usable = np.abs(pose) <= np.finfo(np.float32).max  # what cameras hold; false for NaN
    if not usable.all():
        row, column = np.argwhere(~usable)[0]
        raise ValueError(f"the pose is not finite: {pose[row, column]} in row {row}, column {column}")
    if pose.shape == (4, 4) and np.abs(pose[3] - [0, 0, 0, 1]).max() > ORTHONORMAL_TOLERANCE:
        raise ValueError(f"the last row of a pose is 0 0 0 1, got {' '.join(f'{x:g}' for x in pose[3])}")
    determinant = float(np.linalg.det(pose[:3, :3]))
    scale = np.cbrt(determinant)
    if abs(scale) < 1e-9:
        raise ValueError("the pose is not rigid: its rotation is singular")
    rotation = pose[:3, :3] / abs(scale)
    error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if error > ORTHONORMAL_TOLERANCE:
        raise ValueError(f"the pose is not rigid: its axes are off orthonormal by {error:.2g}")
    if determinant < 0:
        raise ValueError("the pose is mirrored (determinant -1): one axis points the wrong way")
    u, _, v = np.linalg.svd(rotation)
    return np.concatenate([u @ v, pose[:3, 3:]], axis=1)


def from_opencv(rotation: NDArray[np.floating[Any]], position: NDArray[np.floating[Any]]) -> Array:
    """The pose of a camera whose axes in the world are the columns of `rotation` [3, 3]: right, down and forward.

    Raises:
        ValueError: as rigid_pose.
    """
    return rigid_pose(np.concatenate([rotation * [1.0, -1.0, -1.0], position[:, None]], axis=1))


@dataclass(frozen=True)
class Focus:
    """Where a set of cameras looks.

    A panorama looks everywhere: its -z is where the middle of its picture is, and no axis.

    Attributes:
        point: `[3]` nearest point to all view axes in the least-squares sense; the cameras' mean position where none
            has an axis.
        depths: `[n]` distance of the point along each view axis, negative behind the camera; of a panorama, which sees
            it wherever it is, from the camera.
        convergence: 0 when all axes are parallel (the point is then arbitrary) or there are none, about `angle^2` for
            axes spread by `angle` radians, 2/3 for directions all over the sphere.
        has_axis: `[n]` which cameras have one.
    """

    point: Array
    depths: Array
    convergence: float
    has_axis: Mask

    @property
    def is_anywhere(self) -> bool:
        """Whether no camera has an axis, so that they look at nothing in particular."""
        return not self.has_axis.any()

    @property
    def aimed(self) -> Mask:
        """`[n]` which cameras tell what is looked at: those that have an axis; all where none has."""
        return np.ones_like(self.has_axis) if self.is_anywhere else self.has_axis

    @property
    def in_front(self) -> float:
        """Share of the axes that point towards the point and not away from it; 0 where there are none."""
        return 0.0 if self.is_anywhere else float((self.depths[self.has_axis] > 0).mean())

    @property
    def away(self) -> list[int]:
        """The cameras that look away from the point."""
        return np.flatnonzero(self.has_axis & (self.depths <= 0)).tolist()

    @property
    def first(self) -> int:
        """The first of those that are aimed."""
        return int(self.aimed.argmax())


def focus(c2w: Array, is_panorama: Mask) -> Focus:
    """The point that minimises the summed squared distances to all view axes of `c2w [n, 3, 4]`, n >= 1.

    Args:
        c2w: poses.
        is_panorama: `[n]` which of them have no axis. `Cameras.focus` and `data.views.focus_of` know.
    """
    has_axis = ~is_panorama
    if has_axis.any():
        point, convergence = _meeting_point(c2w[has_axis])
    else:
        point, convergence = c2w[:, :, 3].mean(axis=0), 0.0
    offset = point - c2w[:, :, 3]
    along = -np.einsum("ni,ni->n", offset, c2w[:, :, 2])
    depths = np.where(has_axis, along, np.linalg.norm(offset, axis=1))
    return Focus(point, depths, convergence, has_axis)


def _meeting_point(c2w: Array) -> tuple[Array, float]:
    """Point and convergence of a Focus, of poses that all have an axis."""
    origins, directions = c2w[:, :, 3], -c2w[:, :, 2]
    # Projectors onto the plane across each axis: sum P (x - o) = 0.
    across = np.eye(3) - directions[:, :, None] * directions[:, None, :]
    mean_across = across.mean(axis=0)
    convergence = float(np.linalg.eigvalsh(mean_across)[0])
    center = origins.mean(axis=0)
    # Relative to the mean position, so that parallel axes give the nearby solution of least norm.
    right = np.einsum("nij,nj->i", across, origins - center) / len(c2w)
    return center + np.linalg.pinv(mean_across, rcond=1e-9) @ right, convergence


def up(c2w: Array) -> tuple[float, float, float]:
    """Which way is up in the world of the views `c2w [n, 3, 4]`, n >= 1; of length 1.

    +z, as the conventions have it, where the views stand upright in it; else what they show (`up_of_views`): the world
    of a sparse model that nobody has turned has the axes of its first camera.
    """
    x, y, z = (float(v) for v in up_of_views(c2w))
    is_level = float(np.median(np.abs(c2w[:, 2, 0]))) < 0.1
    return (0.0, 0.0, 1.0) if z > (0.5 if is_level else 0.9) else (x, y, z)


def up_of_views(c2w: Array) -> Array:
    """`[3]` of length 1: up as the views `c2w [n, 3, 4]`, n >= 1, show it, however the world stands.

    It is the direction across their right hands, which are level however much they look down. Their mean up, which
    leans forward where they look down from one side, says which of both directions, and is taken itself where all
    right hands are parallel or lie in no plane. Views of all rolls show none: +z.
    """
    rights, mean = c2w[:, :, 0], c2w[:, :, 1].mean(axis=0)
    spread, axes = np.linalg.eigh(rights.T @ rights / len(rights))  # ascending; about angle^2 for hands so far apart
    length = float(np.linalg.norm(mean))
    if spread[1] > 0.02 and spread[0] < 0.1 * spread[1] and length > 0.01:
        return np.asarray(np.copysign(1.0, axes[:, 0] @ mean) * axes[:, 0])
    if length > 0.1:
        return np.asarray(mean / length)
    return np.array([0.0, 0.0, 1.0])
