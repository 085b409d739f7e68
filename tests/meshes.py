# SPDX-License-Identifier: Apache-2.0
"""Small closed meshes: vertices float32 `[n, 3]`, faces int64 `[m, 3]`, counter-clockwise seen from outside."""

import torch
from torch import Tensor

Triangles = tuple[Tensor, Tensor]


def tetrahedron() -> Triangles:
    vertices = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    return vertices, torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])


def cube() -> Triangles:
    """Sides of 2 around the origin."""
    vertices = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0])] * 3)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    return vertices, torch.tensor([t for a, b, c, d in quads for t in ([a, b, c], [a, c, d])])


def icosphere(n_splits: int) -> Triangles:
    """Vertices on the unit sphere."""
    octahedron = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]])
    faces = [[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]]
    corners = octahedron[torch.tensor(faces)]  # [m, 3, 3]
    for _ in range(n_splits):
        a, b, c = corners.unbind(1)
        ab, bc, ca = (torch.nn.functional.normalize(p + q, dim=1) for p, q in ((a, b), (b, c), (c, a)))
        parts = ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))
        corners = torch.cat([torch.stack(part, dim=1) for part in parts])
    vertices, index = torch.unique(corners.reshape(-1, 3), dim=0, return_inverse=True)
    return vertices, index.view(-1, 3)
