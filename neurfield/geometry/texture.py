# SPDX-License-Identifier: Apache-2.0
"""Textures of triangle meshes: the mesh unwrapped into a square, and which texel is which place of its surface."""

import io
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from neurfield.errors import MachineError
from neurfield.geometry.mesh import Mesh

_PADDING = 2  # texels between pieces, of which there are thousands: with 4, a fifth of the texture less is used
_UNWRAPPED_SIZE = 100.0  # of the mesh: triangles of an area below 1e-7 xatlas takes for none
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


def unwrapped(
    mesh: Mesh, normals: NDArray[np.float32], size: int, progress: Callable[[], None] = lambda: None
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """The mesh cut into pieces that lie flat beside one another in a square, by xatlas, in a process of its own.

    Args:
        normals: of its vertices; pieces end where they turn.
        size: side of the texture it is made for, in texels.
        progress: called several times a second; what it raises ends the work.

    Returns:
        Vertices of the pieces, as numbers of those of the mesh, `[n]`, which those on cuts are more than once; the
        faces between them, in the order of the mesh's; and where they lie in the square, 0 ... 1, `[n, 2]`.

    Raises:
        MachineError: xatlas failed.
    """
    low = mesh.vertices.min(axis=0)
    places = (mesh.vertices - low) * (_UNWRAPPED_SIZE / float((mesh.vertices.max(axis=0) - low).max()))
    script = Path(__file__).with_name("unwrap_process.py")
    pipe = subprocess.PIPE
    with tempfile.TemporaryFile() as given:  # what a pipe does not hold at once, communicate() does not send later
        np.savez(
            given, vertices=places.astype(np.float32), faces=mesh.faces.astype(np.uint32), normals=normals,
            size=size, padding=_PADDING,
        )  # fmt: skip
        given.seek(0)
        with subprocess.Popen([sys.executable, "-P", str(script)], stdin=given, stdout=pipe, stderr=pipe) as child:
            try:
                while True:
                    try:
                        found, errors = child.communicate(timeout=0.2)
                        break
                    except subprocess.TimeoutExpired:
                        progress()
            except BaseException:
                child.kill()
                raise
    if child.returncode:
        reason = errors.decode(errors="replace").strip().rpartition("\n")[2] or f"exit status {child.returncode}"
        raise MachineError(f"xatlas could not lay out a texture ({reason}); try another --max-triangles")
    with np.load(io.BytesIO(found)) as atlas:
        return atlas["vertex"].astype(np.int64), atlas["faces"].astype(np.int64), atlas["uv"]


def texels(corners: NDArray[np.float64], height: int, width: int) -> Iterator[Texels]:
    """The texels that triangles in a picture cover, some at a time; one on an edge may come twice.

    Args:
        corners: `[n, 3, 2]`, x and y in texels, whose middles are at halves.
    """
    low = np.ceil(corners.min(axis=1) - 0.5).clip(0).astype(np.int64)
    high = np.floor(corners.max(axis=1) - 0.5).clip(-1, (width - 1, height - 1)).astype(np.int64)
    n_columns, n_rows = (high - low + 1).clip(0).T  # of the box around each triangle, all of whose texels are tested
    strips = np.ceil(n_columns * n_rows / _TESTED_AT_ONCE).astype(np.int64)  # of rows, of triangles that are so large
    face = np.repeat(np.arange(len(corners)), strips)
    number = np.arange(len(face)) - np.repeat(np.cumsum(strips) - strips, strips)
    first, last = (n_rows[face] * (number + i) // strips[face] for i in range(2))
    counts = (last - first) * n_columns[face]
    ends = np.cumsum(counts)
    begin, done = 0, 0
    while begin < len(face):
        end = max(int(np.searchsorted(ends, done + _TESTED_AT_ONCE, side="right")), begin + 1)
        strip = np.repeat(np.arange(begin, end), counts[begin:end])
        place = np.arange(len(strip)) + done - (ends - counts)[strip]
        of = face[strip]
        column, row = low[of, 0] + place % n_columns[of], low[of, 1] + first[strip] + place // n_columns[of]
        weights = _barycentric(corners[of], np.stack([column + 0.5, row + 0.5], axis=1))
        inside = (weights >= 0).all(axis=1)
        if inside.any():
            yield Texels((row * width + column)[inside], of[inside], weights[inside])
        begin, done = end, int(ends[end - 1])


def _barycentric(corners: NDArray[np.float64], places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights `[n, 3]` of the corners `[n, 3, 2]` at places `[n, 2]`; -1 of a triangle without area."""
    to = corners - places[:, None]
    areas = np.stack([_cross(to[:, (i + 1) % 3], to[:, (i + 2) % 3]) for i in range(3)], axis=1)
    total = areas.sum(axis=1, keepdims=True)
    return np.divide(areas, total, out=np.full_like(areas, -1.0), where=total != 0)


def _cross(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def dilated(colors: NDArray[np.uint8], covered: NDArray[np.bool_], steps: int = 8) -> NDArray[np.uint8]:
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
