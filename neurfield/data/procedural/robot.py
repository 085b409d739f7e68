# SPDX-License-Identifier: Apache-2.0
"""A tin robot on glazed tiles, with a spring for a neck, ribbed limbs, a balloon on a string, a ball and a block."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from neurfield.data.procedural import shapes, textures
from neurfield.data.procedural.model import Group, Part, Point, Surface, plain
from neurfield.data.procedural.shapes import Array, Distance, f32
from neurfield.data.procedural.textures import linear, mix

FLOOR = -0.80
TEAL, CREAM, RED = linear("#1f8f8a"), linear("#f3e6c8"), linear("#d2402f")
BRASS, STEEL, RUBBER = linear("#e5b659"), linear("#c9d0d6"), linear("#2a2c31")


def build() -> Group:
    return Group([tiles(), body(), head(), legs(), arms(), balloon(), toys()])


def at(shape: Distance, centre: Point, reach: float | Point, surface, step: float = 1.0, **turn: float) -> Part:
    """A part moved to `centre`, whose box reaches that far from there."""
    reach = (reach,) * 3 if isinstance(reach, float | int) else reach
    low, high = np.subtract(centre, reach), np.add(centre, reach)
    return Part(shapes.moved(shape, centre, **turn), tuple(low.tolist()), tuple(high.tolist()), surface, step)


def chain(points: Sequence[Point], radius: float, surface) -> Part:
    """A round wire through points."""
    links = [shapes.capsule(a, b, radius) for a, b in pairwise(points)]
    low, high = np.min(points, axis=0) - radius, np.max(points, axis=0) + radius
    return Part(shapes.union(*links), tuple(low.tolist()), tuple(high.tolist()), surface)


def tiles() -> Group:
    def glaze(p: Array, n: Array) -> Surface:
        u, v = (
            p[0] + f32(9.72),
            p[1] + f32(9.72),
        )  # lines at the edges, which are 3.5 tiles from the middle
        dark = textures.checker(u, v, 0.24)
        tone = textures.fractal(p, 6.0, 2) * f32(0.35) + f32(0.82)
        color = mix(linear("#efe9dc"), linear("#2f5d86"), dark) * tone
        joint = textures.grid_lines(u, v, 0.24, 0.014)
        return Surface(mix(color, linear("#8b8378"), joint), f32(0.6) - f32(0.5) * joint)

    def frame(p: Array, n: Array) -> Surface:
        return Surface(textures.wood(p, linear("#b98350"), linear("#6a3f1f")), 0.3)

    rim = shapes.difference(
        shapes.box(0.91, 0.91, 0.055, 0.02), shapes.moved(shapes.box(0.835, 0.835, 0.05), (0, 0, 0.065))
    )
    return Group([
        at(shapes.box(0.84, 0.84, 0.025), (0, 0, FLOOR - 0.025), (0.84, 0.84, 0.025), glaze),
        at(rim, (0, 0, FLOOR - 0.045), (0.91, 0.91, 0.056), frame),
    ])  # fmt: skip


def body() -> Group:
    """Enamel with seams and rivets, a dial, buttons and a grille in front (-y), a key at the back."""
    centre = (0.0, 0.0, -0.06)

    def enamel(p: Array, n: Array) -> Surface:
        x, z = p[0], p[2] - f32(centre[2])
        worn = textures.fractal(p, 9.0, 3)
        seam = textures.step(0.25, -np.abs(np.abs(z) - f32(0.25)) + f32(0.2545))
        rivet_x = x - np.round(x / f32(0.08)) * f32(0.08)
        rivet_z = np.abs(z) - f32(0.272)
        rivet = f32(rivet_x * rivet_x + rivet_z * rivet_z < 0.012**2)
        color = mix(TEAL * (f32(0.8) + f32(0.4) * worn), linear("#0d4546"), seam)
        return Surface(mix(color, BRASS, rivet), 0.6)

    def dial(p: Array, n: Array) -> Surface:
        x, z = p[0] + f32(0.12), p[2] - f32(0.03)
        r = np.sqrt(x * x + z * z)
        angle = np.arctan2(z, x)
        ticks = textures.stripes(angle / f32(2 * np.pi) * 16 + f32(0.12), 1.0, 0.24)
        ring = textures.step(0.062, r) * textures.step(-0.083, -r) * ticks
        needle = f32(np.abs(x * f32(0.8) - z * f32(0.6)) < 0.006) * (x + z > -0.02) * (r < 0.07)
        color = mix(linear("#fbf6e8"), RUBBER, ring)
        return Surface(mix(color, RED, np.clip(needle + (r < 0.014), 0, 1).astype(np.float32)), 0.55)

    def grille(p: Array, n: Array) -> Surface:
        slot = textures.stripes(p[2], 0.032, 0.45)
        return Surface(mix(BRASS, BRASS * f32(0.08), slot), 0.6, 1.0)

    front, brass = -0.245, plain(BRASS, 0.8, 1.0)
    lamps = [("#e23b2e", 0.06), ("#f2b632", 0.14), ("#3aa655", 0.22)]
    buttons = [
        at(shapes.ellipsoid(0.03, 0.028, 0.03), (x, front, 0.12), 0.031, plain(linear(c), 0.8, 0.0, 0.25))
        for c, x in lamps
    ]
    key_ring = shapes.union(*(shapes.moved(shapes.torus(0.062, 0.016), (0, 0, s), roll=90) for s in (-0.07, 0.07)))
    return Group([
        at(shapes.box(0.34, 0.24, 0.31, 0.06), centre, (0.34, 0.24, 0.31), enamel),
        at(shapes.box(0.27, 0.02, 0.17, 0.015), (0.01, front + 0.012, 0.03), (0.27, 0.02, 0.17), plain(CREAM, 0.45)),
        at(shapes.cylinder(0.095, -0.02, 0.02, 0.006), (-0.12, front, 0.03), 0.1, dial, roll=90),
        at(shapes.torus(0.097, 0.012), (-0.12, front - 0.017, 0.03), 0.11, brass, roll=90),
        at(shapes.box(0.10, 0.014, 0.065, 0.006), (0.14, front, -0.04), (0.1, 0.014, 0.065), grille),
        *buttons,
        at(shapes.capsule((0, 0, 0), (0, 0.15, 0), 0.018), (0, 0.22, -0.02), (0.02, 0.17, 0.02), brass),
        at(key_ring, (0, 0.38, -0.02), (0.08, 0.02, 0.15), brass),
    ])  # fmt: skip


def head() -> Group:
    centre = (0.0, 0.0, 0.52)
    z = centre[2]

    def face(p: Array, n: Array) -> Surface:
        worn = textures.fractal(p, 8.0, 3)
        color = CREAM * (f32(0.84) + f32(0.3) * worn)
        cheek = textures.step(0.0, f32(0.045) - np.hypot(np.abs(p[0]) - f32(0.165), p[2] - f32(z - 0.075)))
        cheek = cheek * f32(p[1] < -0.1)
        stripe = textures.step(0.098, p[2] - f32(z)) * textures.step(-0.125, f32(z) - p[2])
        return Surface(mix(mix(color, linear("#e88d72"), cheek), RED, stripe), 0.5)

    def eye(p: Array, n: Array) -> Surface:
        x, height = np.abs(p[0]) - f32(0.09), p[2] - f32(z + 0.02)
        r = np.hypot(x, height)
        iris = textures.step(0.024, r) * textures.step(-0.042, -r)
        shine = f32(np.hypot(x + f32(0.012), height - f32(0.014)) < 0.008)
        color = mix(linear("#0e1216"), linear("#39c8e0"), iris)
        color = mix(color, linear("#ffffff"), shine)
        return Surface(color, 0.85, 0.0, color * f32(0.35))

    def teeth(p: Array, n: Array) -> Surface:
        gap = textures.stripes(p[0] + f32(0.0125), 0.05, 0.26)
        return Surface(mix(STEEL, RUBBER, gap), 0.5)

    front = -0.19
    parts = [
        at(shapes.box(0.24, 0.19, 0.16, 0.07), centre, (0.24, 0.19, 0.16), face),
        at(shapes.box(0.10, 0.02, 0.028, 0.01), (0, front, z - 0.08), (0.1, 0.02, 0.028), teeth),
        at(
            shapes.helix(0.095, 0.016, 0.0, 0.13, 4.0),
            (0, 0, 0.245),
            (0.112, 0.112, 0.131),
            plain(STEEL, 0.75, 1.0),
            0.9,
        ),
        at(shapes.cylinder(0.05, 0.0, 0.14), (0, 0, 0.24), (0.05, 0.05, 0.14), plain(RUBBER, 0.2)),
    ]
    for side in (-1, 1):
        x = 0.09 * side
        ear = 0.25 * side
        parts += [
            at(shapes.ellipsoid(0.055, 0.03, 0.055), (x, front, z + 0.02), 0.056, eye),
            at(shapes.torus(0.06, 0.013), (x, front - 0.004, z + 0.02), 0.074, plain(BRASS, 0.8, 1.0), roll=90),
            at(shapes.cylinder(0.075, -0.025, 0.025, 0.01), (ear, 0, z), 0.08, plain(RED, 0.5), pitch=90),
            at(shapes.ellipsoid(0.02, 0.045, 0.045), (ear + 0.025 * side, 0, z), 0.046, plain(BRASS, 0.8, 1.0)),
            chain([(ear, 0, z + 0.05), (ear + 0.03 * side, 0, z + 0.3)], 0.008, plain(STEEL, 0.7, 1.0)),
            at(shapes.sphere(0.028), (ear + 0.03 * side, 0, z + 0.31), 0.03, plain(RED, 0.8)),
        ]
    return Group(parts)


def ribbed(radius: float, length: float, ribs: int) -> Distance:
    """A bellows of rings along z, from 0 to length."""
    pitch = length / ribs
    tube = shapes.cylinder(radius * 0.82, 0.0, length)
    ring = shapes.torus(radius * 0.82, pitch * 0.36)

    def distance(p: Array) -> Array:
        q = p.copy()
        index = np.clip(np.floor(p[2] / f32(pitch)), 0, ribs - 1)
        q[2] = p[2] - (index + f32(0.5)) * f32(pitch)
        return np.minimum(tube(p), ring(q))

    return distance


def legs() -> Group:
    parts = []
    for x in (-0.17, 0.17):
        parts += [
            at(ribbed(0.095, 0.28, 7), (x, 0.0, -0.65), (0.115, 0.115, 0.3), plain(STEEL, 0.55, 1.0)),
            at(shapes.smooth_union(0.05, shapes.ellipsoid(0.14, 0.2, 0.11), shapes.cylinder(0.105, 0.0, 0.14, 0.02)),
               (x, -0.03, -0.77), (0.15, 0.21, 0.16), boot, 0.95),
            at(shapes.cylinder(0.115, -0.02, 0.02, 0.01), (x, 0.0, -0.385), (0.12, 0.12, 0.02), plain(RED, 0.5)),
        ]  # fmt: skip
    return Group(
        [Part(cut_at_floor(p.distance), (*p.low[:2], max(p.low[2], FLOOR)), p.high, p.surface, p.step) for p in parts]
    )


def cut_at_floor(shape: Distance) -> Distance:
    return lambda p: np.maximum(shape(p), f32(FLOOR) - p[2])


def boot(p: Array, n: Array) -> Surface:
    sole = textures.step(FLOOR + 0.035, p[2])
    return Surface(mix(RUBBER, RED * (f32(0.85) + f32(0.3) * textures.noise(p, 14.0)), sole), 0.5)


HAND = (0.60, -0.10, 0.26)


def arms() -> Group:
    """The left one hangs and turns outwards, the right one holds the string of the balloon."""
    steel, red = plain(STEEL, 0.55, 1.0), plain(RED, 0.5)
    raised = np.subtract(HAND, (0.37, 0.0, 0.10))
    length = float(np.linalg.norm(raised))
    pitch = float(np.degrees(np.arccos(raised[2] / length)))
    yaw = float(np.degrees(np.arctan2(raised[1], raised[0])))
    claw = shapes.difference(shapes.torus(0.07, 0.022), shapes.moved(shapes.box(0.05, 0.1, 0.1), (0.07, 0, 0)))
    return Group([
        at(shapes.sphere(0.085), (0.36, 0, 0.10), 0.085, red),
        at(shapes.sphere(0.085), (-0.36, 0, 0.10), 0.085, red),
        at(ribbed(0.068, length - 0.05, 8), (0.37, 0.0, 0.10), 0.36, steel, yaw=yaw, pitch=pitch),
        at(ribbed(0.068, 0.34, 9), (-0.39, 0.0, 0.08), 0.38, steel, pitch=203),
        at(shapes.sphere(0.055), HAND, 0.055, red),
        at(claw, (HAND[0] + 0.03, HAND[1] - 0.01, HAND[2] + 0.09), 0.1, plain(BRASS, 0.8, 1.0), pitch=-90, yaw=20),
        at(shapes.sphere(0.055), (-0.525, 0, -0.24), 0.055, red),
        at(claw, (-0.56, 0, -0.33), 0.1, plain(BRASS, 0.8, 1.0), pitch=75, yaw=0),
    ])  # fmt: skip


def balloon() -> Group:
    """Glossy and light, above the raised hand; the string is two pixels thick and bends."""
    x, y, z = 0.52, 0.16, 0.80
    start, end = np.array([HAND[0] + 0.03, HAND[1] - 0.01, HAND[2] + 0.02]), np.array([x, y, z - 0.27])
    bend = [start + (end - start) * t + np.array([0.05, -0.02, 0]) * np.sin(np.pi * t) for t in np.linspace(0, 1, 9)]

    def rubber(p: Array, n: Array) -> Surface:
        gore = np.arctan2(p[1] - f32(y), p[0] - f32(x)) / f32(2 * np.pi) * 8
        stripe = textures.stripes(gore, 2.0, 0.5)
        return Surface(mix(linear("#f0b429"), linear("#e2562f"), stripe), 0.85)

    def shape(p: Array) -> Array:
        taper = p.copy()
        taper[:2] /= f32(0.86) + f32(0.14) * np.clip((p[2] + f32(0.22)) * f32(2.6), 0, 1)
        return shapes.ellipsoid(0.21, 0.21, 0.25)(taper)

    return Group([
        at(shape, (x, y, z), (0.215, 0.215, 0.255), rubber, 0.8),
        at(shapes.cone(-0.03, 0.02, 0.03, 0.008), (x, y, z - 0.255), 0.032, plain(linear("#d9a01f"), 0.5)),
        chain([tuple(point.tolist()) for point in bend], 0.0065, plain(linear("#efe8d8"), 0.2)),
    ])  # fmt: skip


def toys() -> Group:
    """A striped ball, two wooden blocks and a cable that runs from the key over the tiles."""
    ball = (-0.62, -0.55, FLOOR + 0.17)

    def panels(p: Array, n: Array) -> Surface:
        q = shapes.rotation(20, 35, 50) @ (p - f32(ball)[:, None])
        sector = np.floor((np.arctan2(q[1], q[0]) / f32(2 * np.pi) + f32(0.5)) * 6) % 6
        palette = np.concatenate(
            [linear(c) for c in ("#e8e3d6", "#d2402f", "#e8e3d6", "#f0b429", "#e8e3d6", "#2f6fb0")], axis=1
        )
        color = palette[:, np.clip(sector, 0, 5).astype(np.int64)]
        cap = f32(np.abs(q[2]) > 0.155)
        return Surface(mix(color, linear("#e8e3d6"), cap), 0.65)

    def block(first: str, second: str, centre: Point, yaw: float):
        turn = shapes.rotation(yaw).T

        def paint(p: Array, n: Array) -> Surface:
            q, m = turn @ (p - f32(centre)[:, None]), np.abs(turn @ n)
            u = np.where(m[0] > 0.7, q[1], q[0])
            v = np.where(m[2] > 0.7, q[1], q[2])
            edge = np.maximum(np.abs(u), np.abs(v))
            border = textures.step(0.085, edge) * textures.step(-0.105, -edge)
            ring = textures.step(0.032, np.hypot(u, v)) * textures.step(-0.058, -np.hypot(u, v))
            grain = textures.wood(q * f32(2.5), linear("#e2bd86"), linear("#b98a52"))
            return Surface(mix(mix(grain, linear(first), border), linear(second), ring), 0.3)

        return paint

    low, high = (0.62, -0.58, FLOOR + 0.125), (0.60, -0.55, FLOOR + 0.375)
    on_floor = FLOOR + 0.012
    cable = [
        (0.0, 0.40, -0.10), (0.02, 0.50, -0.35), (0.10, 0.58, -0.62), (0.24, 0.64, FLOOR + 0.03),
        (0.45, 0.60, on_floor), (0.62, 0.44, on_floor), (0.65, 0.22, on_floor), (0.72, 0.06, on_floor),
    ]  # fmt: skip
    plug = cable[-1]
    return Group([
        at(shapes.sphere(0.17), ball, 0.17, panels),
        at(shapes.box(0.125, 0.125, 0.125, 0.015), low, 0.18, block("#2f6fb0", "#d2402f", low, 18), yaw=18),
        at(shapes.box(0.125, 0.125, 0.125, 0.015), high, 0.18, block("#3aa655", "#f0b429", high, 52), yaw=52),
        chain(smooth(cable), 0.012, plain(RUBBER, 0.4)),
        at(shapes.box(0.05, 0.03, 0.022, 0.01), plug, 0.06, plain(linear("#f0b429"), 0.4), yaw=-30),
    ])  # fmt: skip


def smooth(points: Sequence[Point], per_segment: int = 4) -> list[Point]:
    """A Catmull-Rom curve through points, as a polyline."""
    keys = np.array([points[0], *points, points[-1]])
    curve = []
    for a, b, c, d in zip(keys, keys[1:], keys[2:], keys[3:], strict=False):
        for t in np.arange(per_segment) / per_segment:
            curve.append(
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
            )
    return [tuple(point.tolist()) for point in [*curve, keys[-1]]]
