# SPDX-License-Identifier: Apache-2.0
"""Surfaces of constant value by marching cubes (Lorensen and Cline 1987), in slabs, so that the volume is never in
memory.

The table of the 256 cases is derived here from the cube itself: on every face, each crossing from inside to outside is
joined to the next crossing back, which depends only on the four corners of that face, so two cells that share it agree
and the surface is closed. Loops become triangles with diagonals that never lie in a face of the cube: no edge is shared
by more than two triangles.
"""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

# corner c sits at (c & 1, c >> 1 & 1, c >> 2 & 1); an edge is its lower corner and its axis
EDGES = [(corner, axis) for axis in range(3) for corner in range(8) if not corner >> axis & 1]
SLAB = 16  # cells along x that are in memory at once
# Of an edge: vertices keep this far from its ends. Where a field is exactly the level, as behind ReLUs that are all
# off, those of six edges would lie in one corner, and readers that merge equal vertices would find an open mesh.
_APART = 1e-3

Sampler = Callable[[int, int], NDArray[np.float32]]


def marching_cubes(
    sample: Sampler, shape: tuple[int, int, int], level: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The surface where a sampled field crosses `level`, larger values being inside.

    Args:
        sample: `sample(begin, end)` returns the planes `[end - begin, shape[1], shape[2]]` of the field; called in
            order of x.
        shape: number of samples along x, y, z, each at least 2.
        level: value of the surface.

    Returns:
        vertices `[n_vertices, 3]` in units of samples (0 ... shape - 1) and triangles `[n_triangles, 3]`,
        counter-clockwise seen from the smaller values. Empty where nothing crosses. The surface is open where the
        border of the volume is inside.
    """
    keys, positions, triangles = [], [], []
    last: NDArray[np.float32] | None = None
    for begin in range(0, shape[0] - 1, SLAB):
        end = min(begin + SLAB, shape[0] - 1) + 1
        # the shared plane is kept, not sampled again: both slabs see the same bits
        fresh = sample(begin if last is None else begin + 1, end)
        values = fresh if last is None else np.concatenate([last, fresh])
        last = values[-1:]
        slab_keys = _triangle_keys(values, level, begin)
        unique = np.unique(slab_keys)
        keys.append(unique)
        positions.append(_vertices(unique, values, level, begin))
        triangles.append(slab_keys)
    all_keys, first = np.unique(np.concatenate(keys), return_index=True)
    return np.concatenate(positions)[first], np.searchsorted(all_keys, np.concatenate(triangles))


def _triangle_keys(values: NDArray[np.float32], level: float, begin: int) -> NDArray[np.int64]:
    """Triangles `[n, 3]` of one slab as keys of the grid edges that carry their vertices."""
    inside = values > level
    case = np.zeros(tuple(s - 1 for s in values.shape), np.uint8)
    for corner in range(8):
        at = tuple(slice(bit, bit + n) for bit, n in zip(_bits(corner), case.shape, strict=True))
        case |= inside[at].astype(np.uint8) << corner
    cells = np.flatnonzero((case.ravel() != 0) & (case.ravel() != 255))
    case_of = case.ravel()[cells]
    x, y, z = np.unravel_index(cells, case.shape)
    n_y, n_z = values.shape[1:]
    base = ((x + begin) * n_y + y) * n_z + z
    result = []
    for n_triangles in range(1, TRIANGLES.shape[1] + 1):
        rows = np.flatnonzero(COUNTS[case_of] >= n_triangles)
        edges = TRIANGLES[case_of[rows], n_triangles - 1]
        offsets = (CORNERS[edges] * (n_y * n_z, n_z, 1)).sum(axis=-1)
        result.append((base[rows, None] + offsets) * 3 + AXES[edges])
    return np.concatenate(result)


def _vertices(keys: NDArray[np.int64], values: NDArray[np.float32], level: float, begin: int) -> NDArray[np.float64]:
    """Positions of edge keys, by linear interpolation; no two are equal."""
    n_y, n_z = values.shape[1:]
    point, axis = np.divmod(keys, 3)
    flat = values.ravel()
    low = point - begin * n_y * n_z
    a, b = flat[low].astype(np.float64), flat[low + np.array([n_y * n_z, n_z, 1])[axis]].astype(np.float64)
    position = np.stack([point // (n_y * n_z), point // n_z % n_y, point % n_z], axis=1).astype(np.float64)
    position[np.arange(len(keys)), axis] += np.clip((level - a) / (b - a), _APART, 1 - _APART)
    return position


def _bits(corner: int) -> tuple[int, int, int]:
    return corner & 1, corner >> 1 & 1, corner >> 2 & 1


def _faces() -> Iterator[list[int]]:
    """Corners of the six faces, counter-clockwise seen from outside the cube."""
    for axis in range(3):
        u, v = 1 << (axis + 1) % 3, 1 << (axis + 2) % 3
        ring = [0, u, u + v, v]  # turns from u to v: counter-clockwise seen from +axis
        yield [corner + (1 << axis) for corner in ring]
        yield ring[::-1]


def _loops(case: int) -> list[list[int]]:
    """Closed chains of edges that the surface cuts out of the cube's boundary."""
    follow = {}
    for face in _faces():
        steps = [(face[i], face[(i + 1) % 4]) for i in range(4)]
        crossings = [(a, b) for a, b in steps if (case >> a & 1) != (case >> b & 1)]
        for i, (a, b) in enumerate(crossings):
            if case >> a & 1:  # leaves the inside here and returns at the next crossing
                back = crossings[(i + 1) % len(crossings)]
                follow[_edge(*back)] = _edge(a, b)
    loops = []
    while follow:
        start = next(iter(follow))
        loop, edge = [], start
        while edge in follow:
            loop.append(edge)
            edge = follow.pop(edge)
        loops.append(loop)
    return loops


def _edge(a: int, b: int) -> int:
    return EDGES.index((min(a, b), (a ^ b).bit_length() - 1))


def _share_face(a: int, b: int) -> bool:
    """Whether two edges of the cube lie in one of its faces."""
    ends = [{EDGES[e][0], EDGES[e][0] + (1 << EDGES[e][1])} for e in (a, b)]
    return any(ends[0] | ends[1] <= set(face) for face in _faces())


def _triangulate(loop: list[int]) -> list[tuple[int, int, int]] | None:
    """Triangles of a loop without diagonals in a face; the first such division found, or None."""
    if len(loop) == 3:
        return [(loop[0], loop[1], loop[2])]
    for i in range(len(loop)):
        before, tip, after = loop[i - 1], loop[i], loop[(i + 1) % len(loop)]
        if not _share_face(before, after):
            rest = _triangulate([edge for edge in loop if edge != tip])
            if rest is not None:
                return [(before, tip, after), *rest]
    return None


def _table() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Triangles `[256, most, 3]` as edges of the cube, and how many of them each case has."""
    # every loop on a cube has a division (the tests close random volumes, where all cases occur)
    cases = [[triangle for loop in _loops(case) for triangle in _triangulate(loop) or ()] for case in range(256)]
    counts = np.array([len(case) for case in cases])
    table = np.zeros((256, counts.max(), 3), np.int64)
    for case, triangles in enumerate(cases):
        table[case, : len(triangles)] = np.reshape(triangles, (-1, 3))
    return table, counts


TRIANGLES, COUNTS = _table()
CORNERS = np.array([_bits(corner) for corner, _ in EDGES])
AXES = np.array([axis for _, axis in EDGES])
