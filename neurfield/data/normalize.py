# SPDX-License-Identifier: Apache-2.0
"""Choice of the map into unit space, `x_unit = scale * x_world + offset`, in the axes of the input.

- A file's or caller's `scale`, `offset`, `aabb_scale` are taken as they are (source "given").
- Files with `aabb_scale` alone come from instant-ngp, whose own map is scale 0.33, offset 0.5; it is taken if the
  point that the cameras look at lands in the unit cube.
- Blender layouts hold their object in the box [-1.5, 1.5]^3: scale 1/3, offset 0.5 (source "synthetic").
- Otherwise (source "poses") the point nearest to all view axes goes to the centre of the unit cube, which is made as
  wide as what a median camera sees there; the box around it is doubled until it holds all cameras and as much again
  behind. Axes of panoramas, which look everywhere, tell nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from neurfield.cameras.poses import Array, Focus, Mask, focus
from neurfield.data.options import MAX_AABB_SCALE, LoadOptions, check_normalization
from neurfield.data.scene import Normalization
from neurfield.errors import UserError

INSTANT_NGP = (0.33, (0.5, 0.5, 0.5))
SYNTHETIC = Normalization(1 / 3, (0.5, 0.5, 0.5), 1, "synthetic")

# Axes that spread by less than about 3 degrees do not tell how far away their meeting point is.
MIN_CONVERGENCE = 0.003
# A wide-angle camera sees more than its subject: the cube is at least 1.67 times smaller in radius than its distance.
MAX_TAN = 0.6
MIN_TAN = 0.2
# Box half side over the largest camera coordinate, from the centre.
ROOM_BEHIND = 1.25
# Without a point to look at nothing says how deep the scene is: a box that holds many depths.
UNKNOWN_DEPTH_AABB_SCALE = 16
# Assumed depth of a scene that is seen by parallel cameras, in units of the spread of their positions.
PARALLEL_DEPTH = 8.0
# Of coordinates: where a matrix was inverted in float32, positions are off by about one of its roundings, 2^-24.
ONE_PLACE = 2**-22


def is_panorama(tan_half_fov: Array) -> Mask:
    """`[n]` of the half extents `[n, 2]` of pictures at distance one, which are infinite for panoramas."""
    return np.isinf(tan_half_fov[:, 0])


def synthetic(c2w: Array, tan_half_fov: Array, has_alpha: bool) -> tuple[Normalization, list[str]]:
    """The Blender default if the cameras stand around its box and look into it, else the choice of `from_poses`."""
    seen = focus(c2w, is_panorama(tan_half_fov))
    if seen.is_anywhere:
        return from_poses(c2w, tan_half_fov, has_alpha)
    point = seen.point
    distances = np.linalg.norm(c2w[seen.has_axis, :, 3] - point, axis=1)
    if np.abs(point).max() <= 1.0 and np.median(distances) > 1.5:
        return SYNTHETIC, []
    chosen, notes = from_poses(c2w, tan_half_fov, has_alpha)
    return chosen, [
        "the cameras do not look at the usual box [-1.5, 1.5]^3: normalization chosen from the poses",
        *notes,
    ]


def from_poses(
    c2w: Array, tan_half_fov: Array, has_alpha: bool, depth: float | None = None
) -> tuple[Normalization, list[str]]:
    """Automatic choice for captures.

    Args:
        c2w: `[n, 3, 4]`, n >= 1.
        tan_half_fov: `[n, 2]`, see is_panorama.
        has_alpha: the images are cut out, so there is no background to make room for.
        depth: of the subject, if the data say it; asked where the cameras do not tell it.

    Returns:
        The map, and notes for the user where the cameras do not tell enough.
    """
    seen = focus(c2w, is_panorama(tan_half_fov))
    if seen.is_anywhere:
        return _outward(c2w, "panoramas look everywhere")
    tangents = np.clip(tan_half_fov[seen.has_axis].min(axis=1), MIN_TAN, MAX_TAN)
    if seen.convergence < MIN_CONVERGENCE:
        return _parallel(c2w, -c2w[seen.has_axis, :, 2].mean(axis=0), tangents, depth)
    if seen.in_front < 0.5:
        return _outward(c2w, f"{round(100 * (1 - seen.in_front))} % of the cameras look outward")
    depths = seen.depths[seen.has_axis]
    half = float(np.median((depths * tangents)[depths > 0]))
    reach = float(np.abs(c2w[:, :, 3] - seen.point).max()) / half  # in half sides of the unit cube
    return _around(seen.point, half, 1 if has_alpha else _power_of_two(ROOM_BEHIND * reach)), []


def sphere(center: Array, radius: float, c2w: Array, has_alpha: bool) -> Normalization:
    """The sphere around an object that a data set names fills the unit cube, with room as for `from_poses`."""
    reach = float(np.abs(c2w[:, :, 3] - center).max()) / radius
    return replace(_around(center, radius, 1 if has_alpha else _power_of_two(ROOM_BEHIND * reach)), source="given")


def box(low: Array, high: Array) -> Normalization:
    """A box around an object that a data set names fills the unit cube as far as its longest side does."""
    return replace(_around((low + high) / 2, float((high - low).max()) / 2, 1), source="given")


def apply_given(
    chosen: Normalization, notes: list[str], seen: Focus, file: Mapping[str, Any], options: LoadOptions, where: str
) -> tuple[Normalization, list[str]]:
    """Replaces what the file or the caller (who wins) give; a missing offset keeps the chosen centre in the middle.

    Raises:
        UserError: values of the file that are no scale, offset or aabb_scale, or a map that float32 cannot hold.
    """
    check_normalization(where, *(file.get(key) for key in ("scale", "offset", "aabb_scale")))
    scale, offset, aabb_scale = (file.get(key) for key in ("scale", "offset", "aabb_scale"))
    if scale is not None or offset is not None:
        chosen, notes = _from_file(scale, offset, aabb_scale, where), []
    elif aabb_scale is not None:
        habit = _from_file(None, None, aabb_scale, where)
        if np.abs(habit.scale * seen.point).max() <= 0.5:
            chosen, notes = habit, []
        else:
            chosen = replace(chosen, aabb_scale=int(aabb_scale))
            notes = [
                *notes,
                f"{where} has no scale, and that of instant-ngp would put the scene outside of the unit cube",
            ]
    if options.scale is not None or options.offset is not None or options.aabb_scale is not None:
        chosen, notes = _overridden(chosen, options, where), []
    return chosen, notes


def _from_file(scale: float | None, offset: Any, aabb_scale: Any, where: str) -> Normalization:
    return _given(scale or INSTANT_NGP[0], INSTANT_NGP[1] if offset is None else offset, int(aabb_scale or 1), where)


def _overridden(chosen: Normalization, options: LoadOptions, where: str) -> Normalization:
    scale = options.scale or chosen.scale
    if options.offset is not None:
        offset = options.offset
    else:  # the point that was in the middle stays there
        offset = tuple(0.5 + (x - 0.5) * scale / chosen.scale for x in chosen.offset)
    return _given(scale, offset, options.aabb_scale or chosen.aabb_scale, where)


def _given(scale: float, offset: Sequence[float], aabb_scale: int, where: str) -> Normalization:
    x, y, z = map(float, offset)
    if not all(abs((0.5 - value) / float(scale)) <= np.finfo(np.float32).max for value in (x, y, z)):
        given = f"the scale {scale:g} and the offset {x:g} {y:g} {z:g}"
        raise UserError(f"{where}: {given} put the scene where float32 has no numbers; correct them")
    return Normalization(float(scale), (x, y, z), aabb_scale, "given")


def _around(center: Array, half: float, aabb_scale: int) -> Normalization:
    scale = 0.5 / half
    x, y, z = (float(0.5 - scale * c) for c in center)
    return Normalization(scale, (x, y, z), aabb_scale, "poses")


def _parallel(
    c2w: Array, forward: Array, tangents: Array, known_depth: float | None
) -> tuple[Normalization, list[str]]:
    """All cameras look the same way: unless it is known, the depth is a guess from how far apart they stand."""
    positions = c2w[:, :, 3]
    depth = known_depth or PARALLEL_DEPTH * _spread(positions)
    center = positions.mean(axis=0) + depth * forward / np.linalg.norm(forward)
    note = "the view directions are almost parallel: the depth is a guess, check it or give scale and offset"
    notes = [] if known_depth else [note]
    return _around(center, depth * float(np.median(tangents)), UNKNOWN_DEPTH_AABB_SCALE), notes


def _outward(c2w: Array, reason: str) -> tuple[Normalization, list[str]]:
    """The cameras look away from a common point: the walls around are assumed at four times the cameras' spread."""
    positions = c2w[:, :, 3]
    note = f"{reason}, so the size of the scene is a guess: check it, or give scale and offset"
    return _around(positions.mean(axis=0), 4 * _spread(positions), UNKNOWN_DEPTH_AABB_SCALE), [note]


def _spread(positions: Array) -> float:
    """Root mean square distance of the positions to their mean; 1 if they are all the same but for rounding."""
    spread = float(np.sqrt(((positions - positions.mean(axis=0)) ** 2).sum(axis=1).mean()))
    return spread if spread > 1e-6 + ONE_PLACE * float(np.abs(positions).max()) else 1.0


def _power_of_two(ratio: float) -> int:
    """Smallest power of two of at least `ratio`, 2 ... 128."""
    exponent = int(np.ceil(np.log2(max(ratio, 2.0))))
    return min(2**exponent, MAX_AABB_SCALE)
