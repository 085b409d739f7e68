# SPDX-License-Identifier: Apache-2.0
"""Photos of a scene with known cameras: three painted walls one behind the other, seen by a camera that walks past."""

from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

WIDTH, HEIGHT, FOCAL = 320, 240, 300.0
# centre x and y, half width and height, and distance of each wall, the nearest first
WALLS = ((-0.9, 0.2, 0.6, 0.7, 3.0), (0.8, -0.1, 0.7, 0.6, 3.6), (0.0, 0.0, 6.0, 6.0, 5.0))


@lru_cache
def _paint(seed: int) -> np.ndarray:
    """Blots of all sizes, `[size, size, 3]`."""
    random = np.random.default_rng(seed)
    layers = [gaussian_filter(random.normal(size=(1000, 1000, 3)), (s, s, 0), mode="wrap") * s for s in (1.5, 3, 6, 12)]
    return np.clip(0.5 + 0.9 * np.sum(layers, axis=0) / len(layers) ** 0.5, 0, 1)


def cameras(n: int) -> np.ndarray:
    """`[n, 3, 4]` camera to world, axes of OpenCV."""
    poses = []
    for t in np.linspace(-1, 1, n):
        position = np.array([1.2 * t, 0.4 * np.sin(3 * t), 0.2 * np.cos(2 * t)])
        forward = np.array([0.1 * t, 0, 4.0]) - position
        forward /= np.linalg.norm(forward)
        right = np.cross([0.05 * t, 1.0, 0], forward)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(forward, right), forward, position], axis=1))
    return np.array(poses)


def photo(pose: np.ndarray) -> np.ndarray:
    """`[HEIGHT, WIDTH, 3]` uint8."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    rays = np.stack([(x - WIDTH / 2) / FOCAL, (y - HEIGHT / 2) / FOCAL, np.ones_like(x)], axis=-1) @ pose[:, :3].T
    picture, open_ = np.zeros((HEIGHT, WIDTH, 3)), np.ones((HEIGHT, WIDTH), bool)
    for seed, (cx, cy, half_width, half_height, z) in enumerate(WALLS):
        at = pose[:, 3] + rays * ((z - pose[2, 3]) / rays[..., 2:])
        seen = open_ & (abs(at[..., 0] - cx) < half_width) & (abs(at[..., 1] - cy) < half_height)
        paint = _paint(seed)
        where = np.stack([at[..., 1], at[..., 0]])[:, seen] * 110
        picture[seen] = np.stack(
            [map_coordinates(paint[..., c], where, order=1, mode="grid-wrap") for c in range(3)], 1
        )
        open_ &= ~seen
    return np.round(255 * picture).astype(np.uint8)


def take(folder: Path, n: int) -> np.ndarray:
    """Writes `n` photos, `wall_00.jpg` and so on, and gives their poses as `cameras` does."""
    folder.mkdir(parents=True, exist_ok=True)
    poses = cameras(n)
    for i, pose in enumerate(poses):
        Image.fromarray(photo(pose)).save(folder / f"wall_{i:02d}.jpg", quality=95)
    return poses
