# SPDX-License-Identifier: Apache-2.0
"""Small files for the tests of signals."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from neurfield.rendering.video import VideoWriter


def picture(height: int, width: int) -> np.ndarray:
    """Smooth colours with an edge, uint8 `[height, width, 3]`."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    values = np.stack([0.5 + 0.4 * np.sin(5 * x), 0.2 + 0.6 * y, (x + y > 1) * 0.7], axis=2)
    return (values * 255 + 0.5).astype(np.uint8)


def write_picture(path: Path, height: int = 48, width: int = 64) -> Path:
    Image.fromarray(picture(height, width)).save(path)
    return path


def write_video(path: Path, n: int, fps: float) -> Path:
    """A moving picture of 32 x 16 pixels."""
    whole = picture(16, 32 + n)
    with VideoWriter(path, fps) as writer:
        for k in range(n):
            writer.add(torch.from_numpy(whole[:, k : k + 32]))
    return path


def write_obj(path: Path, vertices: torch.Tensor, faces: torch.Tensor, head: str = "") -> Path:
    lines = [f"v {x} {y} {z}" for x, y, z in vertices.tolist()]
    lines += [f"f {a + 1} {b + 1} {c + 1}" for a, b, c in faces.tolist()]
    path.write_text(head + "\n".join(lines) + "\n")
    return path
