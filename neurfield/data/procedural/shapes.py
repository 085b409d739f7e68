# SPDX-License-Identifier: Apache-2.0
"""Signed distances of simple solids: negative inside, never larger than the true distance, so spheres can be traced.

Points are `[3, n]` float32 with x, y and z in rows (each row is one run of memory); distances are `[n]`.
Every shape here stands around the origin with +z up; `moved` puts it somewhere else. The distance of a rounded box and
of a capsule: Hart, "Sphere tracing", 1996.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float32]
Distance = Callable[[Array], Array]


def f32(values: ArrayLike) -> Array:
    """Float32 array of anything; constants are wrapped in it so that no float64 creeps into arrays of points."""
    return np.asarray(values, np.float32)


def sphere(radius: float) -> Distance:
    return lambda p: np.sqrt(p[0] * p[0] + p[1] * p[1] + p[2] * p[2]) - f32(radius)


def ellipsoid(a: float, b: float, c: float) -> Distance:
    """A lower bound: exact on the surface, too careful away from it by at most the ratio of the axes."""
    inverse = f32([[1 / a], [1 / b], [1 / c]])
    shortest = f32(min(a, b, c))

    def distance(p: Array) -> Array:
        q = p * inverse
        return (np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) - 1) * shortest

    return distance


def box(half_x: float, half_y: float, half_z: float, rounding: float = 0.0) -> Distance:
    half = f32([[half_x], [half_y], [half_z]]) - f32(rounding)

    def distance(p: Array) -> Array:
        q = np.abs(p) - half
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        q = np.maximum(q, 0)
        return np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) + inside - f32(rounding)

    return distance


def cylinder(radius: float, low: float, high: float, rounding: float = 0.0) -> Distance:
    """Around the z axis from z = low to high."""
    middle, half, r = f32([(low + high) / 2, (high - low) / 2 - rounding, radius - rounding])

    def distance(p: Array) -> Array:
        side = np.sqrt(p[0] * p[0] + p[1] * p[1]) - r
        lid = np.abs(p[2] - middle) - half
        inside = np.minimum(np.maximum(side, lid), 0)
        side, lid = np.maximum(side, 0), np.maximum(lid, 0)
        return np.sqrt(side * side + lid * lid) + inside - f32(rounding)

    return distance


def cone(low: float, high: float, radius_low: float, radius_high: float) -> Distance:
    """Frustum around the z axis; exact outside near its side, a lower bound near its rims."""
    slope = (radius_low - radius_high) / (high - low)
    cosine = f32(1 / np.sqrt(1 + slope * slope))
    low, high, start, slope = f32([low, high, radius_low, slope])

    def distance(p: Array) -> Array:
        side = (np.sqrt(p[0] * p[0] + p[1] * p[1]) - start + slope * (p[2] - low)) * cosine
        return np.maximum(side, np.maximum(low - p[2], p[2] - high))

    return distance


def capsule(start: tuple[float, float, float], end: tuple[float, float, float], radius: float) -> Distance:
    a = f32(start)[:, None]
    ab = f32(end)[:, None] - a
    scaled = ab / f32((ab * ab).sum())

    def distance(p: Array) -> Array:
        q = p - a
        along = np.clip(q[0] * scaled[0] + q[1] * scaled[1] + q[2] * scaled[2], 0, 1)
        q = q - ab * along
        return np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2]) - f32(radius)

    return distance


def torus(major: float, minor: float) -> Distance:
    """In the plane z = 0, around the z axis."""

    def distance(p: Array) -> Array:
        ring = np.sqrt(p[0] * p[0] + p[1] * p[1]) - f32(major)
        return np.sqrt(ring * ring + p[2] * p[2]) - f32(minor)

    return distance


def gable(half_x: float, half_y: float, low: float, high: float) -> Distance:
    """A roof: a triangle in y-z, from half_y at z = low to the ridge at z = high, drawn along x."""
    height = high - low
    length = np.hypot(height, half_y)
    across, up = f32([height / length, half_y / length])
    half_x, low, high = f32([half_x, low, high])

    def distance(p: Array) -> Array:
        slopes = np.abs(p[1]) * across + (p[2] - high) * up
        return np.maximum(np.maximum(slopes, low - p[2]), np.abs(p[0]) - half_x)

    return distance


def helix(radius: float, wire: float, low: float, high: float, turns: float) -> Distance:
    """A spring around the z axis. A lower bound for coils that are flat (pitch below a third of the circumference)."""
    pitch = f32((high - low) / turns)
    climb = f32(np.cos(np.arctan2(pitch, 2 * np.pi * radius)))
    low, high = f32([low, high])

    def distance(p: Array) -> Array:
        turn = np.arctan2(p[1], p[0]) / f32(2 * np.pi)
        height = p[2] - low - turn * pitch
        offset = (height - np.round(height / pitch) * pitch) * climb
        ring = np.sqrt(p[0] * p[0] + p[1] * p[1]) - f32(radius)
        coil = np.sqrt(ring * ring + offset * offset) - f32(wire)
        return np.maximum(coil, np.maximum(low - p[2], p[2] - high))

    return distance


def union(*shapes: Distance) -> Distance:
    def distance(p: Array) -> Array:
        result = shapes[0](p)
        for shape in shapes[1:]:
            result = np.minimum(result, shape(p))
        return result

    return distance


def smooth_union(radius: float, *shapes: Distance) -> Distance:
    """Union with fillets of about `radius` (polynomial minimum)."""
    k = f32(radius)

    def distance(p: Array) -> Array:
        result = shapes[0](p)
        for shape in shapes[1:]:
            other = shape(p)
            h = np.maximum(k - np.abs(result - other), 0) / k
            result = np.minimum(result, other) - h * h * k * f32(0.25)
        return result

    return distance


def difference(shape: Distance, *cuts: Distance) -> Distance:
    def distance(p: Array) -> Array:
        result = shape(p)
        for cut in cuts:
            result = np.maximum(result, -cut(p))
        return result

    return distance


def shell(shape: Distance, thickness: float) -> Distance:
    """The wall of `shape`, half of the thickness on each side of its surface."""
    return lambda p: np.abs(shape(p)) - f32(thickness / 2)


def displaced(shape: Distance, displacement: Callable[[Array], Array], amplitude: float) -> Distance:
    """`shape(p) + displacement(p)`, |displacement| <= amplitude; the displacement is evaluated near the surface."""
    reach = f32(amplitude)

    def distance(p: Array) -> Array:
        result = shape(p)
        near = np.flatnonzero(np.abs(result) < 2 * reach)
        result -= reach
        result[near] += displacement(p[:, near]) + reach
        return result

    return distance


def rotation(yaw: float = 0.0, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Matrix `[3, 3]` of degrees about x (roll), then y (pitch), then z (yaw)."""
    (cz, cy, cx), (sz, sy, sx) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    return f32(about_z @ about_y @ about_x)


def moved(
    shape: Distance,
    offset: tuple[float, float, float],
    yaw: float = 0.0,
    pitch: float = 0.0,
    roll: float = 0.0,
) -> Distance:
    """`shape` turned by the angles in degrees (see rotation) and then shifted."""
    shift = f32(offset)[:, None]
    if not (yaw or pitch or roll):
        return lambda p: shape(p - shift)
    x, y, z = np.split(rotation(yaw, pitch, roll).T, 3, axis=1)  # columns of the inverse

    def distance(p: Array) -> Array:
        q = p - shift
        return shape(x * q[0] + y * q[1] + z * q[2])

    return distance


def polar(shape: Distance, count: int) -> Distance:
    """`count` copies of a shape near the +x axis, around the z axis. The shape must fit into its sector."""
    sector = f32(2 * np.pi / count)

    def distance(p: Array) -> Array:
        angle = np.arctan2(p[1], p[0])
        angle = angle - np.round(angle / sector) * sector
        radius = np.sqrt(p[0] * p[0] + p[1] * p[1])
        return shape(np.stack([radius * np.cos(angle), radius * np.sin(angle), p[2]]))

    return distance


def mirrored(shape: Distance, axis: int) -> Distance:
    """`shape` on the positive side of an axis, and its mirror image on the other."""

    def distance(p: Array) -> Array:
        q = p.copy()
        q[axis] = np.abs(q[axis])
        return shape(q)

    return distance
