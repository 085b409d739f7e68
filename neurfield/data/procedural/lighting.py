# SPDX-License-Identifier: Apache-2.0
"""Light of the procedural scenes: a soft sun, a sky and a bright ground, with shadows baked into a volume.

What reaches a point does not depend on the camera, so it is computed once: depth maps from directions all around tell
which of them a point sees. A vertex of the volume keeps the visible part of the sun and, per axis direction, the
cosine-weighted visible part of the sky (an ambient cube: McTaggart, "Half-Life 2 / Valve Source shading", 2004).
Pictures then read the volume. Shading: Lambert, plus a glossy term whose width grows with roughness.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from neurfield.data.procedural.model import Model, Surface
from neurfield.data.procedural.shapes import Array, f32
from neurfield.srgb import to_srgb

N_SKY = 40  # directions on the sphere, for the ambient cube
N_SUN = 12  # directions in a cone, for the soft shadow
SUN_RADIUS = np.radians(4.5)
RESOLUTION = 144  # vertices along the longest side of the volume
MOVING_RESOLUTION = 72  # of a scene that moves, which is lit anew for every picture
CHANNELS = 7  # sun; sky from +x -x +y -y +z -z


@dataclass(frozen=True)
class Light:
    """Colours are linear RGB. `sun` points towards the light."""

    sun: tuple[float, float, float] = (0.45, -0.62, 0.85)
    sun_color: tuple[float, float, float] = (2.75, 2.5, 2.1)
    zenith: tuple[float, float, float] = (0.50, 0.66, 0.95)
    horizon: tuple[float, float, float] = (1.0, 0.97, 0.92)
    ground: tuple[float, float, float] = (0.42, 0.38, 0.34)

    @property
    def direction(self) -> Array:
        sun = f32(self.sun)[:, None]
        return sun / np.sqrt((sun * sun).sum())

    def sky(self, directions: Array) -> Array:
        """Radiance `[3, n]` that arrives from `directions [3, n]`: what polished surfaces mirror."""
        zenith, horizon, ground = (f32(c)[:, None] for c in (self.zenith, self.horizon, self.ground))
        up = directions[2]
        above = horizon + (zenith - horizon) * np.sqrt(np.clip(up, 0, 1))
        below = horizon * f32(0.45) + (ground - horizon * f32(0.45)) * np.clip(-2 * up, 0, 1)
        return np.where(up > 0, above, below)


def fibonacci_sphere(n: int) -> Array:
    """`n` directions `[3, n]` spread evenly."""
    z = 1 - (2 * np.arange(n) + 1) / n
    angle = np.arange(n) * np.pi * (3 - np.sqrt(5))
    radius = np.sqrt(1 - z * z)
    return f32([radius * np.cos(angle), radius * np.sin(angle), z])


def cone_of(axis: Array, radius: float, n: int) -> Array:
    """`n` directions `[3, n]` evenly in a cone around the unit `axis [3, 1]`, half angle `radius`."""
    u, v = _tangents(axis)
    r = f32(np.sqrt((np.arange(n) + 0.5) / n) * np.tan(radius))
    angle = f32(np.arange(n) * np.pi * (3 - np.sqrt(5)))
    directions = axis + u * (r * np.cos(angle)) + v * (r * np.sin(angle))
    return directions / np.sqrt((directions * directions).sum(axis=0))


class LightVolume:
    """Visibility of sun and sky around the surfaces of a model; `values [n_vertices, CHANNELS]` come from `bake`."""

    def __init__(self, model: Model, light: Light, values: Array | None = None, resolution: int = RESOLUTION) -> None:
        self.light = light
        self.cell = f32((model.high - model.low).max() / (resolution - 5))
        self.low = (model.low - 2 * self.cell)[:, None]
        self.shape = np.ceil((model.high - model.low) / self.cell).astype(np.int64) + 5
        self.values = np.zeros((int(self.shape.prod()), CHANNELS), np.float32) if values is None else values

    @staticmethod
    def bake(model: Model, light: Light, resolution: int = RESOLUTION) -> "LightVolume":
        """Takes a few seconds. Only vertices near a surface are filled; no others are ever read.

        `resolution`: vertices along the longest side.
        """
        volume = LightVolume(model, light, resolution=resolution)
        axes = [volume.low[i, 0] + volume.cell * np.arange(n, dtype=np.float32) for i, n in enumerate(volume.shape)]
        with ThreadPoolExecutor(2) as pool:
            slabs = list(pool.map(lambda x: volume._near_surface(model, x, axes[1], axes[2]), axes[0]))
            stride = volume.shape[1] * volume.shape[2]
            vertices = np.concatenate([i * stride + rows for i, (rows, _) in enumerate(slabs)])
            points = np.concatenate([lifted for _, lifted in slabs], axis=1)
            volume.values[vertices] = _visibility(model, light, points, pool)
        return volume

    def _near_surface(self, model: Model, x: np.float32, y: Array, z: Array) -> tuple[np.ndarray, Array]:
        """Vertices of one slab near a surface, and points for them that lie one cell in front of it."""
        grid_y, grid_z = np.meshgrid(y, z, indexing="ij")
        points = np.stack([np.full(grid_y.size, x), grid_y.ravel(), grid_z.ravel()])
        distance, part = model.nearest(points, 2.5 * float(self.cell))
        rows = np.flatnonzero(np.abs(distance) < 2.5 * self.cell)
        points = points[:, rows]
        lift = np.maximum(self.cell - distance[rows], 0)
        return rows, points + model.normals(points, part[rows], float(self.cell) / 8) * lift

    def __call__(self, points: Array, normals: Array) -> Array:
        """`[n, CHANNELS]` at surface points `[3, n]`, interpolated one cell in front of the surface."""
        q = (points + normals * self.cell - self.low) / self.cell
        cell = np.minimum(np.maximum(q.astype(np.int64), 0), (self.shape - 2)[:, None])
        f = (q - cell)[..., None]
        stride = np.array([self.shape[1] * self.shape[2], self.shape[2], 1])
        base = (cell * stride[:, None]).sum(axis=0)
        result = np.zeros((points.shape[1], CHANNELS), np.float32)
        for corner in range(8):
            bits = (corner >> 2 & 1, corner >> 1 & 1, corner & 1)
            weight = f32(1)
            for axis, bit in enumerate(bits):
                weight = weight * (f[axis] if bit else 1 - f[axis])
            result += self.values[base + int(stride @ np.array(bits))] * weight
        return result


def shade(surface: Surface, normals: Array, view: Array, lit: Array, light: Light) -> Array:
    """Linear radiance `[3, n]` towards the camera.

    Args:
        surface: reflectance at the points.
        normals, view: unit `[3, n]`; view points to the camera.
        lit: `[n, CHANNELS]` from the light volume.
        light: the sun and the sky.
    """
    sun, sun_color = light.direction, f32(light.sun_color)[:, None]
    up = normals[2] * f32(0.5) + f32(0.5)
    zenith, ground = (f32(c)[:, None] for c in (light.zenith, light.ground))
    direct = sun_color * (lit[:, 0] * np.maximum((normals * sun).sum(axis=0), 0))
    diffuse = direct + (ground + (zenith - ground) * up) * _ambient(lit, normals)

    cos_view = np.maximum((normals * view).sum(axis=0), f32(1e-3))
    mirror = 2 * cos_view * normals - view
    base = f32(0.04) + (surface.albedo - f32(0.04)) * f32(surface.metal)
    gloss = f32(surface.gloss)
    fresnel = base + (np.maximum(gloss, base) - base) * (1 - cos_view) ** 5
    # Phong lobe, normalised; a polished surface has a lobe of about 10 degrees, which degree-4 harmonics can follow
    exponent = 6 + 90 * gloss * gloss
    lobe = np.maximum((mirror * sun).sum(axis=0), 0) ** exponent * (exponent + 1) * f32(0.06) * lit[:, 0]
    sky = light.sky(mirror) * np.minimum(_ambient(lit, mirror), 1)
    # brushed metal: part of the light is spread like that of a matt surface, in the metal's colour
    strength = gloss + (1 - gloss) * f32(surface.metal)
    glossy = fresnel * strength * (sky + sun_color * lobe)
    return surface.albedo * diffuse * f32(1 - 0.65 * surface.metal) + glossy + surface.glow


def display(radiance: Array) -> Array:
    """Linear radiance to sRGB in 0 ... 1: a soft shoulder above mid tones, then the sRGB curve."""
    x = np.maximum(radiance, 0) * f32(0.82)
    x = x * (1 + x * f32(0.16)) / (1 + x * f32(0.62))
    return to_srgb(np.clip(x, 0, 1))


def _ambient(lit: Array, directions: Array) -> Array:
    squared = directions * directions
    return sum(
        squared[axis] * np.where(directions[axis] > 0, lit[:, 1 + 2 * axis], lit[:, 2 + 2 * axis]) for axis in range(3)
    )


def _visibility(model: Model, light: Light, points: Array, pool: ThreadPoolExecutor) -> Array:
    """`[n, CHANNELS]` at free points: sums in a fixed order, so that threads do not change a bit."""
    values = np.zeros((points.shape[1], CHANNELS), np.float32)
    sun, sky = cone_of(light.direction, SUN_RADIUS, N_SUN), fibonacci_sphere(N_SKY)
    weights = np.maximum(np.concatenate([sky, -sky])[[0, 3, 1, 4, 2, 5]], 0)  # +x -x +y -y +z -z
    weights /= weights.sum(axis=1, keepdims=True)
    for seen in pool.map(lambda d: _visible(model, d, points, 384), sun.T):
        values[:, 0] += seen / N_SUN
    for column, seen in enumerate(pool.map(lambda d: _visible(model, d, points, 160), sky.T)):
        for axis in range(6):
            if weights[axis, column] > 0:
                values[:, 1 + axis] += seen * weights[axis, column]
    return values


def _visible(model: Model, direction: Array, points: Array, resolution: int) -> Array:
    """1 where nothing lies between a point and infinity along `direction [3]`, softened over a texel of a depth map."""
    axis = direction[:, None]
    u, v = _tangents(axis)
    centre = ((model.low + model.high) / 2)[:, None]
    radius = f32(np.sqrt(((model.high - model.low) ** 2).sum()) / 2)
    texel = 2 * radius / resolution
    offsets = (np.arange(resolution, dtype=np.float32) + f32(0.5)) * texel - radius
    a, b = (grid.ravel() for grid in np.meshgrid(offsets, offsets, indexing="ij"))
    origins = centre + u * a + v * b + axis * (2 * radius)
    depth, _ = model.cast(origins, np.broadcast_to(-axis, origins.shape))

    q = points - centre
    along = 2 * radius - (q * axis).sum(axis=0)
    x, y = (((q * w).sum(axis=0) + radius) / texel - f32(0.5) for w in (u, v))
    i, j = (np.clip(w.astype(np.int64), 0, resolution - 2) for w in (x, y))
    fx, fy = x - i, y - j
    lit = [f32(depth[(i + k // 2) * resolution + j + k % 2] > along - texel) for k in range(4)]
    low, high = lit[0] + (lit[1] - lit[0]) * fy, lit[2] + (lit[3] - lit[2]) * fy
    return low + (high - low) * fx


def _tangents(axis: Array) -> tuple[Array, Array]:
    helper = f32([[0], [0], [1]]) if abs(axis[2, 0]) < 0.9 else f32([[1], [0], [0]])
    u = np.cross(helper, axis, axis=0)
    u = u / np.sqrt((u * u).sum())
    return u, np.cross(axis, u, axis=0)
