# SPDX-License-Identifier: Apache-2.0
"""Colours that depend on the position in space: crisp patterns and smooth noise, in linear RGB `[3, n]`."""

import numpy as np

from neurfield.data.procedural.shapes import Array, f32
from neurfield.srgb import to_linear

# lattice of value noise, periodic; the generator is fixed so that every scene has the same bytes everywhere
LATTICE_SIZE = 32
LATTICE = np.random.default_rng(7).random((LATTICE_SIZE,) * 3, dtype=np.float32)


def linear(hex_color: str) -> Array:
    """`"#rrggbb"` in sRGB to linear RGB `[3, 1]`."""
    return f32(to_linear(np.array([int(hex_color[i : i + 2], 16) for i in (1, 3, 5)]) / 255))[:, None]


def mix(a: Array, b: Array, weight: Array) -> Array:
    """`a` where weight is 0, `b` where it is 1; weight `[n]`, colours `[3, n or 1]`."""
    return a + (b - a) * weight


def step(edge: float, x: Array, softness: float = 0.0) -> Array:
    """0 below the edge, 1 above it, with a ramp of the given width."""
    if softness == 0:
        return f32(x > edge)
    t = np.clip((x - f32(edge)) / f32(softness) + f32(0.5), 0, 1)
    return t * t * (3 - 2 * t)


def noise(p: Array, frequency: float) -> Array:
    """Smooth value noise in 0 ... 1 with `frequency` lattice cells per unit."""
    q = p * f32(frequency)
    cell = np.floor(q)
    f = q - cell
    f = f * f * (3 - 2 * f)
    i = cell.astype(np.int32) & (LATTICE_SIZE - 1)
    j = (i + 1) & (LATTICE_SIZE - 1)
    flat = LATTICE.reshape(-1)
    rows = [(a * LATTICE_SIZE + b) * LATTICE_SIZE for a in (i[0], j[0]) for b in (i[1], j[1])]
    low, high = ([flat[row + z] for row in rows] for z in (i[2], j[2]))
    along_z = [a + (b - a) * f[2] for a, b in zip(low, high, strict=True)]
    along_y = [along_z[k] + (along_z[k + 1] - along_z[k]) * f[1] for k in (0, 2)]
    return along_y[0] + (along_y[1] - along_y[0]) * f[0]


def fractal(p: Array, frequency: float, octaves: int = 3) -> Array:
    """Sum of octaves of noise, in 0 ... 1, mean about 0.5."""
    total, amplitude, weight = np.zeros_like(p[0]), 1.0, 0.0
    for _ in range(octaves):
        total += noise(p, frequency) * f32(amplitude)
        weight += amplitude
        frequency, amplitude = frequency * 2.03, amplitude / 2
    return total / f32(weight)


def checker(u: Array, v: Array, size: float) -> Array:
    """0 or 1 in squares of side `size`."""
    return f32((np.floor(u / f32(size)) + np.floor(v / f32(size))) % 2)


def stripes(u: Array, period: float, duty: float = 0.5) -> Array:
    """1 in the first `duty` of each period, else 0."""
    phase = u / f32(period)
    return f32(phase - np.floor(phase) < duty)


def grid_lines(u: Array, v: Array, size: float, width: float) -> Array:
    """1 on the lines (joints, grout) of a square grid, else 0."""
    lines = [np.abs(w / f32(size) - np.round(w / f32(size))) * f32(size) for w in (u, v)]
    return f32(np.minimum(lines[0], lines[1]) < width / 2)


def bricks(u: Array, v: Array, width: float, height: float, joint: float) -> tuple[Array, Array]:
    """A running bond: (1 in the joints, a different number in 0 ... 1 for every brick)."""
    row = np.floor(v / f32(height))
    shifted = u / f32(width) + f32(0.5) * (row % 2)
    column = np.floor(shifted)
    du = np.minimum(shifted - column, column + 1 - shifted) * f32(width)
    dv = np.minimum(v - row * f32(height), (row + 1) * f32(height) - v)
    tone = np.sin(column * f32(12.9898) + row * f32(78.233)) * f32(43.758)
    return f32(np.minimum(du, dv) < joint / 2), tone - np.floor(tone)


def wood(p: Array, light: Array, dark: Array, rings: float = 14.0) -> Array:
    """Growth rings around an axis along x, drawn out along the grain."""
    stretched = p * f32([[0.6], [2.0], [2.0]])
    wobble = fractal(stretched, 2.0, 2) * f32(0.9)
    radius = np.sqrt((p[1] + 1.7) ** 2 + (p[2] - 0.9) ** 2) + wobble * f32(0.12)
    phase = radius * f32(rings)
    ring = phase - np.floor(phase)
    fibre = noise(p * f32([[3.0], [60.0], [60.0]]), 1.0)
    return mix(light, dark, np.clip(ring * ring * f32(0.75) + fibre * f32(0.25), 0, 1))
