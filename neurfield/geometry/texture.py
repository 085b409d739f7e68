# SPDX-License-Identifier: Apache-2.0
"""Textures of triangle meshes: the mesh unfolded into a square, and which texel is which place of its surface."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurfield.geometry.mesh import Mesh

_PADDING = 2  # texels between pieces, of which there are thousands: with 4, a fifth of the texture less is used
_UNFOLDED_SIZE = 100.0  # of the mesh: triangles of an area below 1e-7 xatlas takes for none
_TESTED_AT_ONCE = 1 << 22  # pairs of a triangle and a texel; bounds memory


@dataclass(frozen=True)
class Texels:
    """Texels whose middle lies in a triangle.

    Attributes:
        index: int64 `[n]`, row times width plus column.
        face: int64 `[n]`, triangle of the mesh.
        weights: float64 `[n, 3]`, of its corners; they sum to 1.
    """

    index: NDArray[np.int64]
    face: NDArray[np.int64]
    weights: NDArray[np.float64]

    def interpolate(self, faces: NDArray[np.int64], values: NDArray) -> NDArray[np.float32]:
        """`values` per vertex `[n_vertices, k]` of a mesh with these `faces` at the texels, `[n, k]`."""
        return np.einsum("ij,ijk->ik", self.weights, values[faces[self.face]]).astype(np.float32)


def unfolded(
    mesh: Mesh, normals: NDArray[np.float32], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The mesh cut into pieces that lie flat beside one another in a square, by xatlas.

    Args:
        normals: of its vertices; pieces end where they turn.
        size: side of the texture it is made for, in texels.

    Returns:
        Vertices of the pieces, as numbers of those of the mesh, `[n]`, which those on cuts are more than once; the
        faces between them, in the order of the mesh's; and where they lie in the square, 0 ... 1, `[n, 2]`.
    """
    import xatlas  # optional

    atlas = xatlas.Atlas()
    low = mesh.vertices.min(axis=0)
    extent = float((mesh.vertices.max(axis=0) - low).max())
    places = (mesh.vertices - low) * (_UNFOLDED_SIZE / extent)
    atlas.add_mesh(places.astype(np.float32), mesh.faces.astype(np.uint32), normals)
    options = xatlas.PackOptions()
    options.resolution, options.padding = size, _PADDING
    atlas.generate(pack_options=options)
    vertex, faces, uv = atlas[0]
    return vertex.astype(np.int64), faces.astype(np.int64), uv


def texels(corners: NDArray[np.float64], height: int, width: int) -> Iterator[Texels]:
    """The texels that triangles in a picture cover, some triangles at a time; one on an edge may come twice.

    Args:
        corners: `[n, 3, 2]`, x and y in texels, whose middles are at halves.
    """
    low = np.ceil(corners.min(axis=1) - 0.5).clip(0).astype(np.int64)
    high = np.floor(corners.max(axis=1) - 0.5).clip(-1, (width - 1, height - 1)).astype(np.int64)
    sides = (high - low + 1).clip(0)  # of the box around each triangle, all of whose texels are tested
    ends = np.cumsum(sides.prod(axis=1))
    begin, done = 0, 0
    while begin < len(corners):
        end = max(int(np.searchsorted(ends, done + _TESTED_AT_ONCE, side="right")), begin + 1)
        counts = np.diff(ends[begin:end], prepend=done)
        face = np.repeat(np.arange(begin, end), counts)
        place = np.arange(len(face)) - np.repeat(ends[begin:end] - counts - done, counts)
        column, row = low[face, 0] + place % sides[face, 0], low[face, 1] + place // sides[face, 0]
        weights = _barycentric(corners[face], np.stack([column + 0.5, row + 0.5], axis=1))
        inside = (weights >= 0).all(axis=1)
        yield Texels((row * width + column)[inside], face[inside], weights[inside])
        begin, done = end, int(ends[end - 1])


def _barycentric(corners: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights `[n, 3]` of the corners `[n, 3, 2]` at places `[n, 2]`; -1 of a triangle without area."""
    to = corners - places[:, None]
    areas = np.stack([_cross(to[:, (i + 1) % 3], to[:, (i + 2) % 3]) for i in range(3)], axis=1)
    total = areas.sum(axis=1, keepdims=True)
    return np.divide(areas, total, out=np.full_like(areas, -1.0), where=total != 0)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def spread(colors: NDArray[np.uint8], covered: NDArray[np.bool_], steps: int = 8) -> NDArray[np.uint8]:
    """A texture `[h, w, 3]` whose pieces reach `steps` texels beyond where they are `covered`; elsewhere their mean.

    A texture is read between texels and from smaller copies of it, so what lies beside a piece shows at its edge.
    """
    mean = colors[covered].mean(axis=0) if covered.any() else np.zeros(3)
    known = np.where(covered[..., None], colors, 0).astype(np.float32)
    filled = covered.copy()
    for _ in range(steps):
        total, count = np.zeros_like(known), np.zeros(covered.shape, np.float32)
        for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
            to_y, from_y = _shifted(dy)
            to_x, from_x = _shifted(dx)
            total[to_y, to_x] += known[from_y, from_x]
            count[to_y, to_x] += filled[from_y, from_x]
        new = ~filled & (count > 0)
        known[new] = total[new] / count[new, None]
        filled |= new
    known[~filled] = mean
    return (known + 0.5).astype(np.uint8)


def _shifted(step: int) -> tuple[slice, slice]:
    """Where values go and where they come from that move by `step`."""
    return slice(max(step, 0), None if step >= 0 else step), slice(max(-step, 0), None if step <= 0 else -step)
