# SPDX-License-Identifier: Apache-2.0
"""A model lighthouse on its rock in a sea of resin, on a wooden plinth: stripes, shingles, railings, a mast, brass."""

from itertools import pairwise

import numpy as np

from neurfield.data.procedural import shapes, textures
from neurfield.data.procedural.model import Group, Part, Point, Surface, cube, plain
from neurfield.data.procedural.shapes import Array, f32
from neurfield.data.procedural.textures import linear, mix

SEA = -0.68
PLATEAU = -0.36
TOWER = (-0.30, 0.12)  # x, y
TOWER_TOP = 0.50
COTTAGE = (0.26, -0.10)
COTTAGE_YAW = 24.0

WHITE, RED, IRON = linear("#f2ede2"), linear("#c8352b"), linear("#2b3138")
BRASS, TIMBER = linear("#e2b45a"), linear("#8a5a34")


def build() -> Group:
    return Group([plinth(), island(), tower(), cottage(), trees(), pier(), boat()])


def around_tower(shape: shapes.Distance) -> shapes.Distance:
    return shapes.moved(shape, (*TOWER, 0.0))


def tower_box(radius: float, low: float, high: float) -> tuple[Point, Point]:
    x, y = TOWER
    return (x - radius, y - radius, low), (x + radius, y + radius, high)


# the plinth and the sea ---------------------------------------------------------------------------------------------


def plinth() -> Group:
    base = Part(
        shapes.union(shapes.cylinder(1.20, -0.98, -0.86, 0.03), shapes.cylinder(1.15, -0.90, -0.78, 0.01)),
        (-1.2, -1.2, -0.98), (1.2, 1.2, -0.78),
        lambda p, n: Surface(textures.wood(p, linear("#a9713f"), linear("#5d3419")), 0.35),
    )  # fmt: skip
    rim = Part(
        shapes.moved(shapes.torus(1.155, 0.014), (0, 0, -0.775)), (-1.17, -1.17, -0.79), (1.17, 1.17, -0.76),
        plain(BRASS, 0.8, 1.0),
    )  # fmt: skip
    sea = Part(sea_distance, (-1.14, -1.14, -0.79), (1.14, 1.14, SEA + 0.03), sea_surface, step=0.8)
    return Group([base, rim, sea])


def waves(x: Array, y: Array) -> Array:
    swell = np.sin(x * 9 + np.sin(y * 4) * f32(1.3)) * np.sin(y * 8 - x * 3)
    ripple = np.sin(x * 23 - y * 17) * f32(0.3)
    return (swell + ripple) * f32(0.011)


def sea_distance(p: Array) -> Array:
    side = np.sqrt(p[0] * p[0] + p[1] * p[1]) - f32(1.14)
    return np.maximum(np.maximum(side, p[2] - f32(SEA) - waves(p[0], p[1])), f32(-0.79) - p[2])


def sea_surface(p: Array, n: Array) -> Surface:
    shore = rock_distance(p) + (textures.noise(p, 9.0) - f32(0.5)) * f32(0.06)
    shallow = textures.step(0.11, shore, 0.2)
    color = mix(linear("#3fb6ae"), linear("#0d4f78"), shallow)
    color = color * (f32(0.85) + f32(0.3) * textures.fractal(p, 5.0, 2))
    foam = textures.step(0.030, -np.abs(shore - f32(0.03)) + f32(0.055), 0.012)
    caps = textures.step(0.0125, waves(p[0], p[1]) + (textures.noise(p, 30.0) - f32(0.5)) * f32(0.008), 0.001)
    side = textures.step(0.5, n[2], 0.2)
    white = np.clip(foam + caps * f32(0.8), 0, 1) * side
    return Surface(mix(color, linear("#eef7f5"), white), f32(0.62) - f32(0.45) * white)


# the rock ------------------------------------------------------------------------------------------------------------

ROCK = shapes.smooth_union(
    0.16,
    shapes.moved(shapes.ellipsoid(0.50, 0.44, 0.46), (-0.26, 0.10, -0.72)),
    shapes.moved(shapes.ellipsoid(0.50, 0.38, 0.42), (0.22, -0.06, -0.74)),
    shapes.moved(shapes.ellipsoid(0.22, 0.20, 0.25), (-0.02, 0.46, -0.74)),
    shapes.moved(shapes.ellipsoid(0.16, 0.15, 0.20), (-0.62, -0.32, -0.74)),
    shapes.moved(shapes.ellipsoid(0.13, 0.12, 0.17), (0.52, 0.50, -0.76)),
)


def folds(p: Array) -> Array:
    x, y, z = p
    fold = np.sin(x * 13 + np.sin(z * 11)) * np.sin(y * 14 + np.sin(x * 9) * f32(1.2)) * f32(0.022)
    strata = np.sin(z * 42 + np.sin(x * 6 + y * 5) * 2) * f32(0.008)
    chips = np.sin(x * 41 + y * 13) * np.sin(y * 37 - z * 29) * f32(0.005)
    return fold + strata + chips


RUGGED = shapes.displaced(ROCK, folds, 0.035)


def rock_distance(p: Array) -> Array:
    return np.maximum(RUGGED(p), np.maximum(p[2] - f32(PLATEAU), f32(-0.785) - p[2]))


def rock_surface(p: Array, n: Array) -> Surface:
    tone = textures.fractal(p * f32([[1.0], [1.0], [2.6]]), 7.0, 3)
    stone = mix(linear("#54473f"), linear("#b39d85"), np.clip(tone * f32(1.7) - f32(0.35), 0, 1))
    wet = textures.step(SEA + 0.07, p[2] + (tone - f32(0.5)) * f32(0.08), 0.05)
    stone = stone * (f32(0.4) + f32(0.6) * wet)
    blades = textures.noise(p, 55.0) * f32(0.5) + textures.fractal(p, 6.0, 2) * f32(0.5)
    grass = mix(linear("#3f6a26"), linear("#9cb645"), blades)
    path = np.abs(p[1] + f32(0.02) - np.sin(p[0] * 7) * f32(0.035)) - f32(0.036)
    on_path = textures.step(0.0, -path, 0.012) * textures.step(-0.22, p[0]) * textures.step(-0.22, -p[0])
    top = mix(grass, mix(linear("#a08a68"), linear("#d8c6a2"), textures.noise(p, 40.0)), on_path)
    flat = textures.step(0.80, n[2] + (tone - f32(0.5)) * f32(0.25), 0.1) * textures.step(-0.47, p[2], 0.04)
    return Surface(mix(stone, top, flat), f32(0.3) - f32(0.22) * wet)


def island() -> Group:
    return Group([Part(rock_distance, (-0.85, -0.58, -0.8), (0.80, 0.72, PLATEAU), rock_surface, step=0.6)])


# the tower -----------------------------------------------------------------------------------------------------------


def tower_radius(z: Array) -> Array:
    return f32(0.225) - (z - f32(PLATEAU)) * f32(0.075 / (TOWER_TOP - PLATEAU))


def wall_surface(p: Array, n: Array) -> Surface:
    x, y, z = p[0] - f32(TOWER[0]), p[1] - f32(TOWER[1]), p[2]
    turn = np.arctan2(y, x) / f32(2 * np.pi)
    band = textures.stripes(z / f32(0.43) + turn, 1.0, 0.5)
    color = mix(WHITE, RED, band)
    _, tone = textures.bricks(turn * f32(24), z, 1.0, 0.036, 0.0)
    joint_z = np.abs(z / f32(0.036) - np.round(z / f32(0.036))) < 0.06
    color = color * (f32(0.90) + f32(0.10) * tone) * (1 - f32(0.16) * joint_z)
    weather = textures.fractal(p * f32([[1.0], [1.0], [0.35]]), 12.0, 2)
    return Surface(color * (f32(0.84) + f32(0.26) * weather), 0.22)


def tower() -> Group:
    z0, z1 = PLATEAU - 0.02, TOWER_TOP
    slope = (z1 - PLATEAU) / 0.075
    wall = Part(
        around_tower(shapes.cone(z0, z1, 0.225 + 0.02 / slope, 0.15)), *tower_box(0.23, z0, z1), surface=wall_surface
    )
    footing = Part(
        around_tower(shapes.cylinder(0.255, z0, PLATEAU + 0.05, 0.012)), *tower_box(0.256, z0, PLATEAU + 0.05),
        surface=lambda p, n: Surface(mix(linear("#8f8577"), linear("#c9bfae"), textures.noise(p, 25.0)), 0.1),
    )  # fmt: skip
    gallery = Part(
        around_tower(
            shapes.union(
                shapes.cylinder(0.235, z1, z1 + 0.03, 0.008),
                shapes.cone(z1 - 0.07, z1, 0.152, 0.215),
                shapes.polar(shapes.capsule((0.15, 0, z1 - 0.1), (0.222, 0, z1 + 0.005), 0.011), 12),
            )
        ),
        *tower_box(0.236, z1 - 0.115, z1 + 0.03), surface=plain(IRON, 0.4), step=0.95,
    )  # fmt: skip
    return Group([Group([wall, footing, *openings()]), gallery, railing(z1 + 0.03), lantern(z1 + 0.03)])


def openings() -> list[Part]:
    """A door and windows that look out of the wall at several heights."""
    parts = []
    for angle, z in ((-75.0, -0.05), (35.0, 0.10), (150.0, 0.24), (-110.0, 0.30), (255.0, 0.05)):
        parts += window(angle, z, 0.036, 0.052)
    x, y = TOWER
    yaw = -20.0
    r = 0.222
    centre = (x + r * np.cos(np.radians(yaw)), y + r * np.sin(np.radians(yaw)), PLATEAU + 0.13)
    frame = shapes.moved(shapes.box(0.022, 0.066, 0.10, 0.01), centre, yaw)
    leaf = shapes.moved(shapes.box(0.026, 0.050, 0.086, 0.004), centre, yaw)
    low, high = cube(centre, 0.11)
    knob = (
        x + (r + 0.032) * np.cos(np.radians(yaw - 9)),
        y + (r + 0.032) * np.sin(np.radians(yaw - 9)),
        PLATEAU + 0.13,
    )
    parts += [
        Part(frame, low, high, plain(WHITE, 0.2)),
        Part(leaf, low, high, lambda p, n: Surface(
            linear("#1f5f6b") * (1 - f32(0.45) * textures.stripes(p[1] - p[0], 0.026, 0.12)), 0.35)),
        Part(shapes.moved(shapes.sphere(0.012), knob), *cube(knob, 0.013),
             plain(BRASS, 0.85, 1.0)),
    ]  # fmt: skip
    return parts


def window(angle: float, z: float, half_width: float, half_height: float) -> list[Part]:
    r = float(tower_radius(f32(z)))
    x, y = TOWER[0] + r * np.cos(np.radians(angle)), TOWER[1] + r * np.sin(np.radians(angle))
    frame = shapes.moved(shapes.box(0.016, half_width + 0.014, half_height + 0.014, 0.006), (x, y, z), angle)
    pane = shapes.moved(shapes.box(0.019, half_width, half_height), (x, y, z), angle)
    reach = half_height + 0.03
    low, high = cube((x, y, z), reach)
    axis = f32([-np.sin(np.radians(angle)), np.cos(np.radians(angle))])

    def glass(p: Array, n: Array) -> Surface:
        u = (p[0] - f32(x)) * axis[0] + (p[1] - f32(y)) * axis[1]
        bars = np.maximum(np.abs(u) < 0.006, np.abs(p[2] - f32(z)) < 0.006)
        return Surface(mix(linear("#22384a"), WHITE, f32(bars)), 0.75 - f32(0.5) * bars)

    return [Part(frame, low, high, plain(WHITE, 0.25)), Part(pane, low, high, glass)]


def railing(z: float) -> Group:
    radius, top = 0.218, z + 0.125
    posts = shapes.polar(shapes.capsule((radius, 0, z - 0.01), (radius, 0, top), 0.0075), 18)
    rails = [shapes.moved(shapes.torus(radius, r), (0, 0, h)) for h, r in ((top, 0.0105), (z + 0.065, 0.0075))]
    return Group([Part(
        around_tower(shapes.union(posts, *rails)), *tower_box(0.23, z - 0.018, top + 0.011), surface=plain(WHITE, 0.45)
    )])  # fmt: skip


def lantern(z: float) -> Group:
    top = z + 0.235
    sill = Part(
        around_tower(shapes.cylinder(0.135, z - 0.01, z + 0.035, 0.008)), *tower_box(0.136, z - 0.01, z + 0.035),
        surface=plain(RED, 0.4),
    )  # fmt: skip
    bars = shapes.polar(shapes.capsule((0.122, 0, z + 0.03), (0.122, 0, top), 0.0085), 10)
    hoop = shapes.moved(shapes.torus(0.122, 0.0085), (0, 0, z + 0.135))
    cage = Part(
        around_tower(shapes.union(bars, hoop)), *tower_box(0.132, z + 0.02, top + 0.01), surface=plain(IRON, 0.5)
    )
    lamp = Part(
        around_tower(shapes.moved(shapes.ellipsoid(0.058, 0.058, 0.078), (0, 0, z + 0.135))),
        *tower_box(0.06, z + 0.05, z + 0.22), surface=lamp_surface,
    )  # fmt: skip
    stand = Part(
        around_tower(shapes.cylinder(0.025, z + 0.03, top + 0.01)), *tower_box(0.026, z + 0.03, top + 0.01),
        surface=plain(BRASS, 0.8, 1.0),
    )  # fmt: skip
    dome = shapes.difference(
        shapes.moved(shapes.ellipsoid(0.158, 0.158, 0.135), (0, 0, top)),
        shapes.moved(shapes.box(1, 1, 1), (0, 0, top - 1)),
    )
    roof = Part(
        around_tower(shapes.union(dome, shapes.cylinder(0.168, top - 0.008, top + 0.014, 0.006))),
        *tower_box(0.169, top - 0.01, top + 0.136), surface=roof_surface,
    )  # fmt: skip
    peak = top + 0.135
    finial = Part(
        around_tower(
            shapes.union(
                shapes.moved(shapes.sphere(0.032), (0, 0, peak + 0.02)),
                shapes.cone(peak - 0.012, peak + 0.005, 0.045, 0.02),
                shapes.capsule((0, 0, peak), (0, 0, peak + 0.15), 0.0075),
            )
        ),
        *tower_box(0.046, peak - 0.013, peak + 0.16), surface=plain(BRASS, 0.85, 1.0), step=0.95,
    )  # fmt: skip
    return Group([sill, cage, lamp, stand, roof, finial])


def lamp_surface(p: Array, n: Array) -> Surface:
    rib = textures.stripes(p[2], 0.018, 0.5)
    color = mix(linear("#ffd873"), linear("#fff3c4"), rib)
    return Surface(color * f32(0.4), 0.7, 0.0, color * f32(0.75))


def roof_surface(p: Array, n: Array) -> Surface:
    x, y = p[0] - f32(TOWER[0]), p[1] - f32(TOWER[1])
    seam = textures.stripes(np.arctan2(y, x) / f32(2 * np.pi) * 12, 1.0, 0.09)
    color = mix(linear("#b7402f"), linear("#6d2019"), seam)
    return Surface(color * (f32(0.85) + f32(0.3) * textures.noise(p, 18.0)), 0.6)


# the cottage ---------------------------------------------------------------------------------------------------------


def at_cottage(shape: shapes.Distance, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> shapes.Distance:
    return shapes.moved(shapes.moved(shape, (x, y, z)), (*COTTAGE, PLATEAU), COTTAGE_YAW)


def cottage_frame(p: Array) -> Array:
    c, s = f32(np.cos(np.radians(COTTAGE_YAW))), f32(np.sin(np.radians(COTTAGE_YAW)))
    x, y = p[0] - f32(COTTAGE[0]), p[1] - f32(COTTAGE[1])
    return np.stack([x * c + y * s, y * c - x * s, p[2] - f32(PLATEAU)])


def masonry(p: Array, n: Array) -> Surface:
    q = cottage_frame(p)
    local = cottage_frame(n + f32([[COTTAGE[0]], [COTTAGE[1]], [PLATEAU]]))
    along = np.where(np.abs(local[0]) > np.abs(local[1]), q[1], q[0])
    joint, tone = textures.bricks(along, q[2], 0.075, 0.038, 0.007)
    stone = mix(linear("#cdb891"), linear("#f0e6cf"), tone)
    return Surface(mix(stone, linear("#a89878"), joint), 0.1)


def shingles(p: Array, n: Array) -> Surface:
    q = cottage_frame(p)
    joint, tone = textures.bricks(q[0], np.abs(q[1]) * f32(1.3), 0.046, 0.034, 0.006)
    tile = mix(linear("#31475a"), linear("#6d8799"), tone)
    return Surface(mix(tile, linear("#1c2830"), joint), 0.3)


def cottage() -> Group:
    x, y = COTTAGE
    low, high = (x - 0.25, y - 0.25, PLATEAU - 0.02), (x + 0.25, y + 0.25, PLATEAU + 0.17)
    top = (x + 0.26, y + 0.26, PLATEAU + 0.36)
    walls = shapes.union(shapes.box(0.18, 0.125, 0.1), shapes.moved(shapes.gable(0.18, 0.125, 0.0, 0.105), (0, 0, 0.1)))
    roof = shapes.difference(
        shapes.gable(0.205, 0.168, 0.135, 0.31), shapes.moved(shapes.gable(0.3, 0.168, 0.135, 0.31), (0, 0, -0.026))
    )
    chimney = shapes.union(shapes.box(0.028, 0.028, 0.085), shapes.moved(shapes.box(0.034, 0.034, 0.01), (0, 0, 0.08)))
    parts = [
        Part(at_cottage(walls, z=0.08), low, top, masonry),
        Part(at_cottage(roof, z=-0.005), (x - 0.27, y - 0.27, PLATEAU + 0.1), top, shingles),
        Part(at_cottage(chimney, 0.10, 0.055, 0.27), (x, y, PLATEAU + 0.18), (x + 0.17, y + 0.19, PLATEAU + 0.37),
             lambda p, n: Surface(mix(linear("#b5543b"), linear("#d7c3ae"), textures.grid_lines(
                 p[0] + p[1], p[2], 0.024, 0.005)), 0.1)),
        Part(at_cottage(shapes.box(0.008, 0.042, 0.068, 0.004), 0.181, 0.0, 0.066), low, high,
             plain(linear("#a33a2a"), 0.35)),
        Part(at_cottage(shapes.sphere(0.009), 0.192, 0.026, 0.066), low, high, plain(BRASS, 0.8, 1.0)),
    ]  # fmt: skip
    for wx, wy in ((-0.09, -0.126), (0.08, -0.126), (-0.09, 0.126), (0.08, 0.126), (-0.181, 0.0)):
        side = abs(wx) > 0.15
        half = (0.008, 0.034) if side else (0.034, 0.008)
        parts.append(Part(at_cottage(shapes.box(*half, 0.036, 0.003), wx, wy, 0.095), low, high, cottage_glass))
    return Group(parts)


def cottage_glass(p: Array, n: Array) -> Surface:
    """Panes with white bars and frames; a window is found from the local position, so one function serves all five."""
    q = cottage_frame(p)
    on_side = np.abs(q[0]) > 0.15
    centre = np.where(q[0] < 0, f32(-0.09), f32(0.08))
    u = np.abs(np.where(on_side, q[1], q[0] - centre))
    v = np.abs(q[2] - f32(0.095))
    bars = (u < 0.004) | (v < 0.004) | (u > 0.027) | (v > 0.029)
    return Surface(mix(linear("#ffd88a"), WHITE, f32(bars)), 0.6 - f32(0.4) * bars)


# trees, pier and boat ------------------------------------------------------------------------------------------------


def trees() -> Group:
    placed = ((0.02, -0.28, 0.30), (0.50, 0.06, 0.26), (0.12, 0.20, 0.34), (-0.08, 0.38, 0.24))
    return Group([Group(tree(*where)) for where in placed])


def tree(x: float, y: float, height: float) -> list[Part]:
    z = PLATEAU - 0.03
    cones = [
        shapes.cone(
            height * (0.22 + 0.24 * k), height * (0.22 + 0.24 * k) + height * 0.42, height * (0.34 - 0.08 * k), 0.004
        )
        for k in range(3)
    ]

    def crown(p: Array) -> Array:
        needles = np.sin(np.arctan2(p[1], p[0]) * 11 + p[2] * 60) * f32(0.006)
        return shapes.union(*cones)(p) + needles

    def foliage(p: Array, n: Array) -> Surface:
        tone = textures.noise(p, 70.0) * f32(0.6) + textures.noise(p, 20.0) * f32(0.4)
        return Surface(mix(linear("#173d24"), linear("#5f9440"), tone), 0.12)

    r = height * 0.34 + 0.01
    return [
        Part(shapes.moved(crown, (x, y, z)), (x - r, y - r, z + height * 0.2), (x + r, y + r, z + height * 1.12 +
        0.012), foliage, 0.7), Part(shapes.moved(shapes.cylinder(0.018, 0.0, height * 0.3), (x, y, z)), (x - 0.02, y -
        0.02, z),
             (x + 0.02, y + 0.02, z + height * 0.3), plain(TIMBER, 0.1)),
    ]  # fmt: skip


def pier() -> Group:
    """Planks on posts from the rock over the sea, with a rope on iron rods."""
    x, y0, y1, z = 0.20, -0.98, -0.40, -0.54

    def planks(p: Array, n: Array) -> Surface:
        board = np.floor((p[1] - f32(y0)) / f32(0.0485))
        tone = np.sin(board * f32(91.7)) * f32(0.5) + f32(0.5)
        grain = textures.noise(p * f32([[8], [90], [8]]), 1.0)
        gap = textures.stripes(p[1] - f32(y0), 0.0485, 0.13)
        color = mix(linear("#7d5f43"), linear("#c4a27a"), tone * f32(0.6) + grain * f32(0.4))
        return Surface(color * (1 - f32(0.8) * gap), 0.12)

    deck = Part(
        shapes.moved(shapes.box(0.085, (y1 - y0) / 2, 0.012), (x, (y0 + y1) / 2, z)),
        (x - 0.09, y0, z - 0.013), (x + 0.09, y1, z + 0.013), planks,
    )  # fmt: skip
    rods = [
        shapes.capsule((x + s, y, -0.79), (x + s, y, z + 0.02), 0.014)
        for s in (-0.072, 0.072)
        for y in (-0.95, -0.75, -0.55)
    ]
    posts = Part(shapes.union(*rods), (x - 0.09, y0, -0.805), (x + 0.09, -0.53, z + 0.035), plain(TIMBER * 0.7, 0.1))
    stakes = [(x + 0.076, y, z + 0.12) for y in (-0.96, -0.78, -0.60, -0.43)]
    rails = [shapes.capsule((s[0], s[1], z), s, 0.007) for s in stakes]
    ropes = []
    for a, b in pairwise(stakes):
        middle = (a[0], (a[1] + b[1]) / 2, a[2] - 0.025)
        ropes += [shapes.capsule(a, middle, 0.0065), shapes.capsule(middle, b, 0.0065)]
    rope = Part(
        shapes.union(*ropes, *rails),
        (x + 0.065, -0.97, z - 0.008),
        (x + 0.087, -0.42, z + 0.13),
        plain(linear("#e8dcc0"), 0.15),
    )
    return Group([deck, posts, rope])


def boat() -> Group:
    """A dinghy with a sail: a hollow hull, a mast, a boom and two stays no thicker than two pixels."""
    where, yaw = (0.68, -0.52, SEA + 0.025), 62.0

    def put(shape: shapes.Distance) -> shapes.Distance:
        return shapes.moved(shape, where, yaw)

    half = 0.2
    outer = shapes.ellipsoid(half, 0.078, 0.075)
    hull = shapes.difference(outer, shapes.moved(shapes.ellipsoid(half - 0.02, 0.064, 0.066), (0, 0, 0.012)),
                             shapes.moved(shapes.box(1, 1, 1), (0, 0, 1.022)))  # fmt: skip
    mast = shapes.union(
        shapes.capsule((0.03, 0, -0.05), (0.03, 0, 0.44), 0.009),
        shapes.capsule((0.03, 0, 0.09), (-0.17, 0, 0.08), 0.008),
    )
    stays = shapes.union(
        shapes.capsule((0.03, 0, 0.43), (0.185, 0, 0.01), 0.0055),
        shapes.capsule((0.03, 0, 0.43), (-0.19, 0, 0.01), 0.0055),
    )

    def sail(p: Array) -> Array:
        """A thin bent triangle between mast and boom."""
        belly = np.sin(np.clip((p[0] + f32(0.16)) * f32(16.5), 0, np.pi)) * f32(0.03)
        slope = f32([0.885, 0.465])  # of the aft edge, from the clew to the head
        aft = -(p[0] + f32(0.155)) * slope[0] + (p[2] - f32(0.10)) * slope[1]
        flat = np.maximum(np.maximum(aft, p[0] - f32(0.018)), f32(0.10) - p[2])
        return np.maximum(np.abs(p[1] - belly) - f32(0.005), flat)

    shift, turn = f32(where)[:, None], shapes.rotation(yaw).T

    def cloth(p: Array, n: Array) -> Surface:
        q = p - shift
        height = q[2]
        band = textures.step(0.24, height) * textures.step(-0.29, -height)
        seam = textures.stripes(height, 0.045, 0.06) * f32(0.18)
        return Surface(mix(linear("#f6efdf"), linear("#e0762f"), band) * (1 - seam), 0.1)

    def planking(p: Array, n: Array) -> Surface:
        q = p - shift
        side = turn[1, 0] * q[0] + turn[1, 1] * q[1]
        inside = f32((side * (turn[1, 0] * n[0] + turn[1, 1] * n[1]) < 0) | (n[2] > 0.3))
        stripe = textures.step(0.0, q[2]) * textures.step(-0.014, -q[2])
        paint = mix(linear("#1f4d8c"), WHITE, stripe)
        return Surface(mix(paint, linear("#b98550"), inside), 0.4)

    x, y, z = where
    low, high = (x - 0.21, y - 0.21, z - 0.08), (x + 0.21, y + 0.21, z + 0.025)
    above = (x + 0.21, y + 0.21, z + 0.45)
    return Group([
        Part(put(hull), low, high, planking, 0.9),
        Part(put(mast), low, above, plain(linear("#c08a4e"), 0.3)),
        Part(put(stays), low, above, plain(linear("#d9d3c4"), 0.2)),
        Part(put(sail), low, above, cloth, 0.85),
    ])  # fmt: skip
