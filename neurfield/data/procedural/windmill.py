# SPDX-License-Identifier: Apache-2.0
"""A windmill on a meadow at a moment: its sails turn half a turn, a ball hops past it, a cart rolls the other way."""

import numpy as np

from neurfield.data.procedural import shapes, textures
from neurfield.data.procedural.model import Group, Part, Point, Surface, cube, plain
from neurfield.data.procedural.shapes import Array, f32
from neurfield.data.procedural.textures import linear, mix

GROUND = -0.72
MILL = (-0.1, 0.22)  # x, y
HUB: Point = (MILL[0], -0.14, 0.34)
SAIL_LENGTH = 0.58
BALL_RADIUS = 0.15
CREAM, RED, BLUE = linear("#f3e6c8"), linear("#d2402f"), linear("#2f6fb0")
BRASS, TIMBER = linear("#e5b659"), linear("#8a5a34")


def build(time: float = 0.0) -> Group:
    """The scene at a time of 0 ... 1."""
    return Group([meadow(), mill(), sails(180.0 * time), ball(time), cart(time)])


def meadow() -> Part:
    def grass(p: Array, n: Array) -> Surface:
        blades = textures.noise(p, 40.0) * f32(0.5) + textures.fractal(p, 5.0, 2) * f32(0.5)
        color = mix(linear("#4a7a2c"), linear("#a3bf4c"), blades)
        path = textures.step(0.0, f32(0.16) - np.abs(p[1] + f32(0.5) - np.sin(p[0] * 3) * f32(0.05)), 0.03)
        color = mix(color, mix(linear("#b89a70"), linear("#dcc9a4"), textures.noise(p, 30.0)), path)
        side = textures.step(0.6, n[2], 0.1)
        return Surface(mix(textures.wood(p, linear("#a9713f"), linear("#5d3419")), color, side), 0.12)

    return Part(
        shapes.cylinder(1.05, GROUND - 0.1, GROUND, 0.02),
        (-1.06, -1.06, GROUND - 0.11),
        (1.06, 1.06, GROUND + 0.01),
        grass,
    )


def mill() -> Group:
    x, y = MILL
    top = 0.30

    def wall(p: Array, n: Array) -> Surface:
        turn = np.arctan2(p[1] - f32(y), p[0] - f32(x)) / f32(2 * np.pi)
        joint, tone = textures.bricks(turn * f32(20), p[2], 1.0, 0.07, 0.0)
        joint = np.maximum(joint, f32(np.abs(p[2] / f32(0.07) - np.round(p[2] / f32(0.07))) < 0.07))
        color = mix(linear("#b4543a"), linear("#d98a5f"), tone)
        return Surface(mix(color, CREAM, joint), 0.15)

    def roof(p: Array, n: Array) -> Surface:
        return Surface(mix(BLUE, linear("#6fa3d4"), textures.stripes(p[2], 0.05, 0.3)), 0.4)

    door = (x, y - 0.305, GROUND + 0.14)
    window = (x, y - 0.235, -0.05)
    return Group([
        Part(shapes.moved(shapes.cone(GROUND - 0.02, top, 0.33, 0.21), (x, y, 0.0)),
             (x - 0.34, y - 0.34, GROUND - 0.03), (x + 0.34, y + 0.34, top + 0.01), wall),
        Part(shapes.moved(shapes.cone(top, top + 0.3, 0.26, 0.02), (x, y, 0.0)),
             (x - 0.27, y - 0.27, top - 0.01), (x + 0.27, y + 0.27, top + 0.31), roof),
        Part(shapes.moved(shapes.box(0.08, 0.04, 0.14, 0.01), door), *cube(door, 0.15), surface=plain(TIMBER, 0.3)),
        Part(shapes.moved(shapes.box(0.05, 0.05, 0.06, 0.01), window), *cube(window, 0.07), surface=plain(CREAM, 0.4)),
        Part(shapes.capsule((HUB[0], y, HUB[2]), (HUB[0], HUB[1] - 0.03, HUB[2]), 0.035),
             (HUB[0] - 0.04, HUB[1] - 0.07, HUB[2] - 0.04), (HUB[0] + 0.04, y + 0.04, HUB[2] + 0.04),
             plain(BRASS, 0.8, 1.0)),
    ])  # fmt: skip


def sails(angle: float) -> Group:
    """Four of them around the hub, turned by `angle` degrees; one is red, so that no quarter turn is like another."""

    def sail(i: int) -> Part:
        turn = angle + 90.0 * i
        radians = np.radians(turn)
        along = f32([np.sin(radians), 0.0, np.cos(radians)])
        cloth = RED if i == 0 else CREAM

        def paint(p: Array, n: Array) -> Surface:
            reach = ((p - f32(HUB)[:, None]) * along[:, None]).sum(axis=0)
            lattice = textures.stripes(reach, 0.09, 0.2)
            return Surface(mix(cloth, TIMBER, lattice), 0.2)

        shape = shapes.union(
            shapes.capsule((0, 0, 0), (0, 0, SAIL_LENGTH), 0.016),
            shapes.moved(shapes.box(0.075, 0.012, 0.21), (0.065, 0.0, SAIL_LENGTH - 0.21)),
        )
        return Part(shapes.moved(shape, HUB, pitch=turn), *cube(HUB, SAIL_LENGTH + 0.05), surface=paint)

    return Group([sail(i) for i in range(4)])


def ball_middle(time: float) -> Point:
    """Three hops from left to right, in front of the mill."""
    return (1.3 * (time - 0.5), -0.5, GROUND + BALL_RADIUS + 0.42 * abs(float(np.sin(3 * np.pi * time))))


def ball(time: float) -> Part:
    middle = ball_middle(time)

    def panels(p: Array, n: Array) -> Surface:
        q = shapes.rotation(0, 360.0 * time, 0).T @ (p - f32(middle)[:, None])
        sector = textures.stripes(np.arctan2(q[2], q[0]) / f32(2 * np.pi), 1 / 3, 0.5)
        return Surface(mix(linear("#f5f0e2"), linear("#e2562f"), sector), 0.5)

    return Part(shapes.moved(shapes.sphere(BALL_RADIUS), middle), *cube(middle, BALL_RADIUS + 0.01), surface=panels)


def cart(time: float) -> Group:
    """Behind the mill, from right to left."""
    x, y, z = 0.45 - 0.9 * time, 0.78, GROUND + 0.14
    wheels = shapes.union(
        *(
            shapes.moved(shapes.cylinder(0.075, -0.02, 0.02, 0.006), (x + dx, y + dy, GROUND + 0.075), roll=90)
            for dx in (-0.11, 0.11)
            for dy in (-0.11, 0.11)
        )
    )
    low, high = (x - 0.24, y - 0.16, GROUND - 0.01), (x + 0.24, y + 0.16, GROUND + 0.36)
    return Group([
        Part(shapes.moved(shapes.box(0.2, 0.1, 0.06, 0.01), (x, y, z)), low, high, plain(BLUE, 0.5)),
        Part(shapes.moved(shapes.ellipsoid(0.16, 0.09, 0.1), (x, y, z + 0.07)), low, high, plain(BRASS, 0.2), 0.8),
        Part(wheels, low, high, plain(linear("#2b3138"), 0.4)),
    ])  # fmt: skip
