# SPDX-License-Identifier: Apache-2.0
"""Small data sets in a temporary folder: pictures of a few pixels, cameras on a circle that look at the origin."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WIDTH, HEIGHT, FOCAL = 8, 6, 10.0


def look_at(position: list[float], target: tuple[float, float, float] = (0, 0, 0)) -> np.ndarray:
    """Camera-to-world `[4, 4]` in OpenGL axes, world +Z up."""
    back = np.array(position, dtype=np.float64) - target
    back /= np.linalg.norm(back)
    right = np.cross([0, 0, 1], back)
    right /= np.linalg.norm(right)
    c2w = np.eye(4)
    c2w[:3] = np.stack([right, np.cross(back, right), back, position], axis=1)
    return c2w


def circle(n: int, radius: float = 4.0, height: float = 1.0) -> list[np.ndarray]:
    angles = 2 * np.pi * np.arange(n) / n
    return [look_at([radius * np.cos(a), radius * np.sin(a), height]) for a in angles]


def pixels(seed: int, width: int = WIDTH, height: int = HEIGHT, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def frames(poses: list[np.ndarray], folder: str = "images", suffix: str = ".png") -> list[dict[str, Any]]:
    return [
        {"file_path": f"{folder}/{i:03d}{suffix}", "transform_matrix": pose.tolist()} for i, pose in enumerate(poses)
    ]


def write_images(root: Path, n: int, folder: str = "images", channels: int = 3, suffix: str = ".png") -> None:
    (root / folder).mkdir(parents=True, exist_ok=True)
    for i in range(n):
        Image.fromarray(pixels(i, channels=channels)).save(root / folder / f"{i:03d}{suffix}", lossless=True)


def write_json(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def transforms(root: Path, n: int = 9, channels: int = 3, **shared: Any) -> dict[str, Any]:
    """Writes `n` images and `transforms.json` into `root`; returns the content, to be changed and written again."""
    write_images(root, n, channels=channels)
    lens = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    content = {**lens, **shared, "frames": frames(circle(n))}
    write_json(root / "transforms.json", content)
    return content


def turned(c2w: np.ndarray) -> np.ndarray:
    """A pose `[3 or 4, 4]` or some, a quarter turn to the left."""
    right, up, back, position = np.moveaxis(c2w, -1, 0)
    return np.stack([back, up, -right, position], axis=-1)


def with_panoramas(root: Path, content: dict[str, Any], which: list[int]) -> Path:
    """Writes the content of `transforms` again, where some frames are panoramas; their middle is off to the left."""
    for i in which:
        pose = turned(np.array(content["frames"][i]["transform_matrix"]))
        lens = {"camera_model": "EQUIRECTANGULAR", "fl_x": WIDTH / 2, "fl_y": HEIGHT}
        content["frames"][i] |= {**lens, "transform_matrix": pose.tolist()}
    write_json(root / "transforms.json", content)
    return root


def synthetic(root: Path, counts: dict[str, int] | None = None, channels: int = 4) -> None:
    """Writes a folder in the NeRF-synthetic layout."""
    for split, n in (counts or {"train": 4, "val": 2, "test": 3}).items():
        write_images(root, n, split, channels)
        listed = frames(circle(n, 3.9), f"./{split}", "")
        write_json(root / f"transforms_{split}.json", {"camera_angle_x": 0.7, "frames": listed})
