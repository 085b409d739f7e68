# SPDX-License-Identifier: Apache-2.0
"""Cameras on the move: around the scene, between the views that were photographed, along keyframes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from neurfield.cameras.cameras import PANORAMA, Cameras, panorama_intrinsics
from neurfield.cameras.poses import Array
from neurfield.cameras.poses import up as up_of
from neurfield.errors import UserError

WORLD_UP = (0.0, 0.0, 1.0)


def look_at(positions: Tensor, target: Tensor, up: tuple[float, float, float] = WORLD_UP) -> Tensor:
    """Poses `[n, 3, 4]` at `positions [n, 3]` that look at `target [3]`, upright.

    A view along `up` has no unique upright pose; its right hand is then the world's x axis.
    """
    back = torch.nn.functional.normalize(positions - target, dim=1)
    right = torch.linalg.cross(torch.tensor(up, dtype=back.dtype).expand_as(back), back)
    length = right.norm(dim=1, keepdim=True)
    x_axis = torch.tensor([1.0, 0.0, 0.0], dtype=back.dtype)
    right = torch.where(length > 1e-6, right / length.clamp_min(1e-6), x_axis)
    return torch.stack([right, torch.linalg.cross(back, right), back, positions], dim=2)


def check_orbit(n: int, elevation: float | None) -> None:
    """Raises UserError for less than one view, or an elevation outside of -90 ... 90 degrees."""
    if n < 1:
        raise UserError(f"--orbit: expected at least 1 view, got {n}")
    if elevation is not None and not -90 <= elevation <= 90:
        raise UserError(f"--elevation must be within -90 ... 90 degrees, got {elevation:g}")


def orbit(cameras: Cameras, n: int, elevation: float | None = None) -> Cameras:
    """One turn of `n` views around what `cameras` look at, at their median distance, with the lens of the first.

    The axis is what is up for the cameras (`poses.up`). Panoramas amid other views tell nothing but what is up.

    Args:
        cameras: training views.
        n: number of views; the last one is a step before the first, so that a video loops.
        elevation: degrees above the horizon; by default the median of the cameras'.

    Raises:
        UserError: n below 1, elevation outside -90 ... 90, panoramas at one place.
    """
    check_orbit(n, elevation)
    seen, target = cameras.focus(), _target(cameras)
    offset = cameras.c2w[torch.from_numpy(seen.aimed), :, 3] - target
    distance = offset.norm(dim=1)
    if seen.is_anywhere and float(distance.median()) < 1e-6 * (1 + float(target.norm())):
        raise UserError("the panoramas stand at one place, which cannot be gone around; use --split or --camera-path")
    up = up_of(cameras.c2w.double().numpy())
    east_north, axis = _level_axes(up), torch.tensor(up)
    if elevation is None:
        sine = (offset @ axis / distance.clamp_min(1e-9)).median()
        # straight above, an orbit would be a spin on the spot
        tilt = torch.asin(sine.clamp(-0.94, 0.94))
    else:
        tilt = torch.deg2rad(torch.tensor(elevation))
    east, north = east_north @ offset[0]
    angle = torch.atan2(north, east) + torch.arange(n) * (2 * torch.pi / n)
    sideways = torch.stack([torch.cos(angle), torch.sin(angle)], dim=1) @ east_north
    direction = torch.cos(tilt) * sideways + torch.sin(tilt) * axis
    around = _same_lens(cameras, look_at(target + direction * distance.median(), target, up))
    return replace(around, c2w=level(around.c2w, up)) if bool(around.is_panorama[0]) else around


def panoramas(cameras: Cameras, up: tuple[float, float, float] = WORLD_UP) -> Cameras:
    """Panoramas from where cameras stand, as high as their pictures and twice as wide. Their horizon is level, and the
    middle of it is where the camera looks, or would look if it were not tilted.
    """
    heights = cameras.sizes[:, 1:]
    return replace(
        cameras,
        c2w=level(cameras.c2w, up),
        intrinsics=heights * torch.tensor(panorama_intrinsics(2, 1)),
        sizes=heights * torch.tensor([2, 1]),
        models=torch.full_like(cameras.models, PANORAMA),
        distortion=torch.zeros_like(cameras.distortion),
    )


def level(c2w: Tensor, up: tuple[float, float, float] = WORLD_UP) -> Tensor:
    """Poses `[n, 3, 4]` that look where `c2w [n, 3, 4]` do, but at the horizon and upright; straight up or down, where
    they would look if they were tilted back.
    """
    axis = torch.tensor(up)
    across = torch.eye(3) - axis[:, None] * axis
    top, back = c2w[:, :, 1] @ across, c2w[:, :, 2] @ across
    top = torch.where((c2w[:, :, 2] @ axis)[:, None] > 0, -top, top)  # of a view downwards, it is ahead
    back = torch.where(back.norm(dim=1, keepdim=True) > 1e-3, back, top)
    return torch.cat([look_at(back, torch.zeros(3), up)[:, :, :3], c2w[:, :, 3:]], dim=2)


def turn_to_nearest(cameras: Cameras, views: Cameras) -> Tensor:
    """Degrees around the axis of `orbit(cameras, n)` from each of `views` to the nearest of `cameras`, `[n_views]`."""
    target, level = _target(cameras), _level_axes(up_of(cameras.c2w.double().numpy()))

    def heading(positions: Tensor) -> Tensor:
        east, north = ((positions - target) @ level.T).unbind(1)
        return torch.atan2(north, east)

    apart = (heading(views.c2w[:, :, 3])[:, None] - heading(cameras.c2w[:, :, 3])).abs()
    return torch.rad2deg(torch.minimum(apart, 2 * torch.pi - apart).amin(dim=1))


def interpolate(cameras: Cameras, n: int) -> Cameras:
    """`n` views from the first to the last of `cameras`, through all of them in their order, on a smooth path (see
    `through`), with the lens of the first.

    Raises:
        UserError: n below 1, fewer than two cameras.
    """
    if n < 1:
        raise UserError(f"--interpolate: expected at least 1 view, got {n}")
    if len(cameras) < 2:
        raise UserError(f"--interpolate: expected at least 2 training views to go between, found {len(cameras)}")
    poses, _ = through(cameras.c2w, cameras.c2w.new_empty(len(cameras), 0), n)
    return _same_lens(cameras, poses)


def spline(poses: Tensor, values: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Uniform cubic B-spline through the neighbourhood of keyframes, the way instant-ngp plays a path.

    Args:
        poses: `[n_keys, 3, 4]`, at least one.
        values: `[n_keys, n_values]` that change along (field of view, ...).
        n: frames, from the first key to the last.

    Returns:
        poses `[n, 3, 4]` and values `[n, n_values]`. The curve is smooth and passes near the keys, not through them.
    """
    keys = torch.cat([_aligned(quaternion_from_matrix(poses[:, :, :3])), poses[:, :, 3], values], dim=1)
    last = len(keys) - 1
    moment = torch.linspace(0, last, n)
    low = moment.long().clamp_max(max(last - 1, 0))
    t = (moment - low)[:, None]
    weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
    mixed = torch.stack([w * keys[(low + i - 1).clamp(0, last)] for i, w in enumerate(weights)]).sum(0) / 6
    return torch.cat([matrix_from_quaternion(mixed[:, :4]), mixed[:, 4:7, None]], dim=2), mixed[:, 7:]


def through(poses: Tensor, values: Tensor, n: int, loop: bool = False) -> tuple[Tensor, Tensor]:
    """Catmull-Rom spline: smooth, and through every keyframe.

    Args:
        poses: `[n_keys, 3, 4]`, at least one.
        values: `[n_keys, n_values]` that change along (field of view, ...).
        n: frames, at least 1; evenly spaced in the number of the key.
        loop: go on from the last key to the first; the last frame is then a step before the first.

    Returns:
        poses `[n, 3, 4]` and values `[n, n_values]`.
    """
    keys = torch.cat([quaternion_from_matrix(poses[:, :, :3]), poses[:, :, 3], values], dim=1)
    if len(keys) == 1:
        keys = keys.repeat(2, 1)
    around = torch.cat([keys[-1:], keys, keys[:2]] if loop else [keys[:1], keys, keys[-1:]])
    around = torch.cat([_aligned(around[:, :4]), around[:, 4:]], dim=1)
    n_parts = len(keys) if loop else len(keys) - 1
    moment = torch.arange(n) * (n_parts / n) if loop else torch.linspace(0, n_parts, n)
    low = moment.long().clamp_max(n_parts - 1)
    t = (moment - low)[:, None]
    weights = (2 * t**2 - t - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2)
    mixed = torch.stack([w * around[low + i] for i, w in enumerate(weights)]).sum(0) / 2
    return torch.cat([matrix_from_quaternion(mixed[:, :4]), mixed[:, 4:7, None]], dim=2), mixed[:, 7:]


def matrix_from_quaternion(q: Tensor) -> Tensor:
    """Rotations `[n, 3, 3]` of quaternions wxyz `[n, 4]` of any length but 0."""
    w, x, y, z = torch.nn.functional.normalize(q, dim=1).unbind(1)
    rows = [
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return torch.stack(rows, dim=1).view(-1, 3, 3)


def rotation_of(quaternion: Sequence[float]) -> Array:
    """`[3, 3]` float64 of a unit quaternion wxyz.

    Raises:
        ValueError: its length is another than 1.
    """
    q = torch.tensor([quaternion], dtype=torch.float64)
    if not abs(q.norm() - 1) < 1e-3:
        raise ValueError(f"its quaternion must have length 1, got {float(q.norm()):g}")
    return matrix_from_quaternion(q)[0].numpy()


def quaternion_from_matrix(m: Tensor) -> Tensor:
    """Quaternions wxyz `[n, 4]` of rotations `[n, 3, 3]`: an eigenvector (Bar-Itzhack 2000), safe at every angle."""
    m = m.double()
    xx, yy, zz = m[:, 0, 0], m[:, 1, 1], m[:, 2, 2]
    xy, xz, yz = m[:, 0, 1] + m[:, 1, 0], m[:, 0, 2] + m[:, 2, 0], m[:, 1, 2] + m[:, 2, 1]
    wx, wy, wz = m[:, 2, 1] - m[:, 1, 2], m[:, 0, 2] - m[:, 2, 0], m[:, 1, 0] - m[:, 0, 1]
    k = torch.stack([
        xx + yy + zz, wx, wy, wz,
        wx, xx - yy - zz, xy, xz,
        wy, xy, yy - xx - zz, yz,
        wz, xz, yz, zz - xx - yy,
    ], dim=1).view(-1, 4, 4)  # fmt: skip
    return torch.linalg.eigh(k).eigenvectors[:, :, 3].float()


def _target(cameras: Cameras) -> Tensor:
    """What the cameras look at, `[3]`; ahead of parallel ones, as far as they stand apart; amid panoramas."""
    seen = cameras.focus()
    if seen.is_anywhere or seen.convergence > 1e-4:
        return torch.from_numpy(seen.point).float()
    parallel = cameras.c2w[torch.from_numpy(seen.aimed)]
    position = parallel[:, :, 3]
    middle = position.mean(0)
    return middle - parallel[:, :, 2].mean(0) * (position - middle).norm(dim=1).mean().clamp_min(1.0)


def _level_axes(up: tuple[float, float, float]) -> Tensor:
    """Two axes `[2, 3]` across `up` that turn counter-clockwise around it: x and y of a world where up is +z."""
    axis = torch.tensor(up)
    aside = torch.tensor([1.0, 0.0, 0.0] if abs(up[0]) < 0.9 else [0.0, 1.0, 0.0])
    east = torch.nn.functional.normalize(aside - (aside @ axis) * axis, dim=0)
    return torch.stack([east, torch.linalg.cross(axis, east)])


def _aligned(q: Tensor) -> Tensor:
    """Signs chosen so that neighbours `[n, 4]` are less than half a turn apart."""
    flips = torch.cat([torch.ones(1), torch.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0)])
    return q * flips.cumprod(0)[:, None]


def _same_lens(cameras: Cameras, c2w: Tensor) -> Cameras:
    """Pinholes at `c2w` with the focal length and size of the first camera, or panoramas where it is one."""
    width, height = cameras.sizes[0].tolist()
    if bool(cameras.is_panorama[0]):
        return Cameras.panorama(c2w, width, height)
    return Cameras.pinhole(c2w, float(cameras.intrinsics[0, 0]), width, height)
