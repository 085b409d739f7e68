# SPDX-License-Identifier: Apache-2.0
import numpy as np
from numpy.typing import NDArray

from neurfield.geometry import Mesh, marching_cubes

RADIUS = 12.0


def ball(half: bool = False) -> Mesh:
    """Around the origin; `half`: open at x = 0."""
    axis = np.arange(32) - 15.5

    def sample(begin: int, end: int) -> NDArray[np.float32]:
        z = np.sqrt(axis[begin:end, None, None] ** 2 + axis[:, None] ** 2 + axis**2)
        return (RADIUS - z).astype(np.float32)

    vertices, faces = marching_cubes(sample, (32, 32, 32), 0.0)
    vertices = vertices - 15.5
    return Mesh(vertices, faces[(vertices[faces, 0] > 0).all(axis=1)] if half else faces)
