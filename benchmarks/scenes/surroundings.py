# SPDX-License-Identifier: Apache-2.0
"""A scene of the project, whose images are transparent around its object, put on a table in a dome: opaque images.

Table and dome are coloured by formulas, so every view shows the same ones. They cast no shadows and none falls on them.
"""

import json
from pathlib import Path

import imageio.v3 as iio
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TABLE_RADIUS, DOME_RADIUS = 5.0, 12.0  # in world units, around the vertical axis and the origin
AABB_SCALE = 8  # the box that holds the dome, in unit cubes of Blender's layout
_PARTS = (-0.25, 0.25)  # of a pixel, in both directions: four rays a pixel


def put_on_a_table(data: Path, folder: Path, height: float) -> None:
    """Writes the splits of `data` to `folder`, with a table at z = `height`."""
    for split in ("train", "val", "test"):
        meta = json.loads((data / f"transforms_{split}.json").read_text())
        (folder / split).mkdir(parents=True)
        for frame in meta["frames"]:
            name = f"{frame['file_path']}.png"
            image = iio.imread(data / name) / 255
            tangent = np.tan(0.5 * meta["camera_angle_x"])
            behind = _colors(np.array(frame["transform_matrix"]), tangent, *image.shape[:2], height)
            over = image[..., 3:] * image[..., :3] + (1 - image[..., 3:]) * behind
            iio.imwrite(folder / name, (over * 255).round().clip(0, 255).astype(np.uint8))
        (folder / f"transforms_{split}.json").write_text(json.dumps(meta))


def _colors(c2w: Array, tangent: float, height: int, width: int, table: float) -> Array:
    """What a camera sees of table and dome, `[height, width, 3]` in 0 ... 1."""
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    origin, parts = c2w[:3, 3], []
    for dx in _PARTS:
        for dy in _PARTS:
            right, up = (x + dx) * 2 / width - 1, (height - 2 * (y + dy)) / width
            d = np.stack([right * tangent, up * tangent, -np.ones_like(x)], axis=-1) @ c2w[:3, :3].T
            d /= np.linalg.norm(d, axis=-1, keepdims=True)
            along = d @ origin
            t = np.sqrt(along**2 - origin @ origin + DOME_RADIUS**2) - along
            dome = _dome((origin + t[..., None] * d) / DOME_RADIUS)
            t = (table - origin[2]) / d[..., 2]
            place = origin + t[..., None] * d
            on_table = (t > 0) & (np.hypot(place[..., 0], place[..., 1]) < TABLE_RADIUS)
            parts.append(np.where(on_table[..., None], _table(place[..., 0], place[..., 1]), dome))
    return np.mean(parts, axis=0)


def _table(x: Array, y: Array) -> Array:
    """Wooden squares."""
    grain = 0.5 + 0.5 * np.sin(7 * x + 2 * np.sin(1.7 * y) + 1.5 * np.sin(2.1 * x + y))
    pores = 0.5 + 0.5 * np.sin(31 * x + 4 * np.sin(9 * y)) * np.sin(23 * y - 7 * x)
    square = (np.floor(1.3 * x) + np.floor(1.3 * y)) % 2
    color = np.stack([0.55 + 0.2 * grain, 0.38 + 0.15 * grain + 0.1 * square, 0.25 + 0.1 * pores + 0.12 * square], -1)
    return color * (0.8 + 0.2 * pores[..., None])


def _dome(d: Array) -> Array:
    """Coloured clouds."""
    angle, z = np.arctan2(d[..., 1], d[..., 0]), d[..., 2]
    stripes = 0.5 + 0.5 * np.sin(9 * z + 2 * np.sin(3 * angle))
    cloud = 0.5 + 0.5 * np.sin(17 * angle + 11 * z)
    return np.stack([0.35 + 0.4 * stripes, 0.575 + 0.125 * np.sin(5 * angle), 0.55 + 0.3 * cloud * stripes], -1)
