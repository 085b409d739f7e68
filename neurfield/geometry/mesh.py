# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes in memory, their connected pieces and what can be said about them."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    """Triangles over shared vertices.

    Attributes:
        vertices: float64 `[n_vertices, 3]`.
        faces: int64 `[n_faces, 3]`, counter-clockwise seen from outside.
        normals: float32 unit `[n_vertices, 3]`, or None.
        colors: uint8 sRGB `[n_vertices, 3]`, or None.
        metadata: strings and numbers that are written into the file.
        up: which way is up, of length 1.
        uv: float32 `[n_vertices, 2]`, places in the texture: (0, 0) is its upper left corner, (1, 1) the lower right;
            or None.
        texture: uint8 sRGB `[h, w, 3]`, or None.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float32] | None = None
    colors: NDArray[np.uint8] | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)
    uv: NDArray[np.float32] | None = None
    texture: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class MeshReport:
    """What a user wants to know before opening the file; `volume` means something only when `watertight`."""

    n_vertices: int
    n_faces: int
    n_components: int
    watertight: bool
    volume: float
    low: tuple[float, float, float]
    high: tuple[float, float, float]

    def describe(self) -> str:
        pieces = "1 piece" if self.n_components == 1 else f"{self.n_components} pieces"
        closed = f"closed, volume {self.volume:.4g}" if self.watertight else "not closed"
        return f"{self.n_vertices} vertices, {self.n_faces} triangles, {pieces}, {closed}"


def report(mesh: Mesh) -> MeshReport:
    """Counts, closedness (every edge: two triangles, in opposite directions), volume and bounds of a mesh."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    return MeshReport(
        n_vertices=len(mesh.vertices),
        n_faces=len(mesh.faces),
        n_components=len(np.unique(_component_of_vertices(mesh)[mesh.faces[:, 0]])),
        watertight=is_closed(mesh),
        volume=float(np.einsum("ij,ij->", a, np.cross(b, c)) / 6),
        low=(float(low[0]), float(low[1]), float(low[2])),
        high=(float(high[0]), float(high[1]), float(high[2])),
    )


def keep_large_components(mesh: Mesh, fraction: float) -> Mesh:
    """Without the connected pieces that have fewer than `fraction` of the triangles of the largest one."""
    component = _component_of_vertices(mesh)[mesh.faces[:, 0]]
    sizes = np.bincount(component)
    return with_faces(mesh, sizes[component] >= fraction * sizes.max(initial=0))


def keep_components_of(mesh: Mesh, vertices: NDArray[np.bool_]) -> Mesh:
    """Only the connected pieces that have one of the chosen vertices, bool `[n_vertices]`."""
    component = _component_of_vertices(mesh)
    return with_faces(mesh, np.isin(component, component[vertices])[mesh.faces[:, 0]])


def drop_cavities(mesh: Mesh) -> Mesh:
    """Without the closed pieces that are inside out: walls of hollows that nobody sees. Pieces must be closed."""
    component = _component_of_vertices(mesh)[mesh.faces[:, 0]]
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    volume = np.bincount(component, np.einsum("ij,ij->i", a, np.cross(b, c)))
    return with_faces(mesh, volume[component] > 0)


def with_faces(mesh: Mesh, kept: NDArray[np.bool_]) -> Mesh:
    """The chosen triangles and the vertices they use."""
    used, faces = np.unique(mesh.faces[kept], return_inverse=True)
    return replace(
        mesh,
        vertices=mesh.vertices[used],
        faces=faces.reshape(-1, 3),
        normals=None if mesh.normals is None else mesh.normals[used],
        colors=None if mesh.colors is None else mesh.colors[used],
        uv=None if mesh.uv is None else mesh.uv[used],
    )


def face_normals(mesh: Mesh) -> NDArray[np.float32]:
    """Unit vertex normals `[n_vertices, 3]`: the mean over the triangles around, weighted by area."""
    a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
    across = np.cross(b - a, c - a)
    normals = np.stack(
        [sum(np.bincount(mesh.faces[:, i], across[:, k], len(mesh.vertices)) for i in range(3)) for k in range(3)],
        axis=1,
    )
    unit = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)
    return unit.astype(np.float32)


def is_closed(mesh: Mesh) -> bool:
    """Whether every edge has two triangles, in opposite directions."""
    faces, n_vertices = mesh.faces, len(mesh.vertices)
    start = faces.ravel()
    end = np.roll(faces, -1, axis=1).ravel()
    forward, backward = np.sort(start * n_vertices + end), np.sort(end * n_vertices + start)
    return len(faces) > 0 and bool((forward[1:] != forward[:-1]).all() and (forward == backward).all())


def spread_over_faces(faces: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """`values [n_vertices, k]` with those that are nan taken from around them, ring by ring: the mean over the edges
    of triangles to those that have any. 1/2 where a whole piece has none."""
    values = values.copy()
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.concatenate([edges, edges[:, ::-1]])
    known = ~np.isnan(values[:, 0])
    while len(edges := edges[~known[edges[:, 1]]]):  # those that lead to what is not known
        there = known[edges[:, 0]]
        if not there.any():
            break
        start, end = edges[there].T
        count = np.bincount(end, minlength=len(values))
        reached = np.flatnonzero(count)
        for k in range(values.shape[1]):
            values[reached, k] = np.bincount(end, values[start, k], len(values))[reached] / count[reached]
        known[reached] = True
    values[~known] = 0.5
    return values


def split_where_sheets_touch(mesh: Mesh) -> Mesh:
    """The mesh with vertices twice where sheets of triangles have them in common.

    If the triangles of each edge come in pairs of opposite directions, each edge has one such pair afterwards. Nothing
    that is seen of the surface changes. Without normals and colours.
    """
    faces = mesh.faces
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()  # edge 3 f + i begins at corner i of triangle f
    _, edge = np.unique(np.minimum(start, end) * len(mesh.vertices) + np.maximum(start, end), return_inverse=True)
    split, there, back = _split(faces, edge, np.zeros(len(edge), bool))
    # a sheet that touches itself comes round to an edge with either pair of it, if these are the wrong ones
    twice = _is_taken_twice(split)
    if twice.any():
        split, there, back = _split(faces, edge, np.isin(edge, edge[twice]))
        twice = _is_taken_twice(split)  # with both pairs
    vertices = np.empty((split.max(initial=-1) + 1, 3))
    vertices[split.ravel()] = mesh.vertices[start]
    pairs = twice[there]
    if pairs.any():
        middles = (mesh.vertices[start[there[pairs]]] + mesh.vertices[end[there[pairs]]]) / 2
        middle = np.full(faces.size, -1)
        middle[there[pairs]] = middle[back[pairs]] = len(vertices) + np.arange(len(middles))
        vertices, split = _cut_at_middles(np.concatenate([vertices, middles]), split, middle.reshape(-1, 3))
    return replace(mesh, vertices=vertices, faces=split, normals=None, colors=None, uv=None)


def _cut_at_middles(
    vertices: NDArray[np.float64], faces: NDArray[np.int64], middle: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices and faces with those faces cut up around their own middles on whose edges vertices lie.

    Args:
        middle: `[n, 3]`, the vertex on the edge of a face that begins at each corner, or -1.
    """
    touched = (middle >= 0).any(axis=1)
    fans = []
    for centre, (corners, on_edges) in enumerate(zip(faces[touched], middle[touched], strict=True), len(vertices)):
        ring = np.stack([corners, on_edges], axis=1).ravel()
        ring = ring[ring >= 0]
        fans.append(np.stack([np.full(len(ring), centre), ring, np.roll(ring, -1)], axis=1))
    return np.concatenate([vertices, vertices[faces[touched]].mean(axis=1)]), np.concatenate([faces[~touched], *fans])


def _split(
    faces: NDArray[np.int64], edge: NDArray[np.int64], crossed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Faces with a vertex for each set of corners that is joined across edges, and the pairs of edges that are joined.

    Args:
        faces: `[n, 3]`.
        edge: `[3 n]`, the same number for both directions of an edge that begins at corner i of triangle f, 3 f + i.
        crossed: `[3 n]`: the k-th triangle on one side goes with the k-th from the end on the other, not the k-th.
    """
    is_back = (faces > np.roll(faces, -1, axis=1)).ravel()
    sides = []
    for side in (np.flatnonzero(~is_back), np.flatnonzero(is_back)):
        from_the_end = crossed[side] & is_back[side]
        side = side[np.lexsort((np.where(from_the_end, -side, side), edge[side]))]
        number = np.arange(len(side)) - np.searchsorted(edge[side], edge[side])
        sides.append((side, edge[side] * edge.size + number))
    (there, key_there), (back, key_back) = sides
    _, at_there, at_back = np.intersect1d(key_there, key_back, assume_unique=True, return_indices=True)
    there, back = there[at_there], back[at_back]
    corner = np.arange(faces.size).reshape(-1, 3)
    following = np.roll(corner, -1, axis=1).ravel()
    joined = np.concatenate([np.stack([there, following[back]], axis=1), np.stack([following[there], back], axis=1)])
    return _components(faces.size, joined).reshape(-1, 3), there, back


def _is_taken_twice(faces: NDArray[np.int64]) -> NDArray[np.bool_]:
    """bool `[3 n]`: whether another triangle has the same edge in the same direction."""
    start, end = faces.ravel(), np.roll(faces, -1, axis=1).ravel()
    _, which, count = np.unique(start * faces.size + end, return_inverse=True, return_counts=True)
    return count[which] > 1


def _component_of_vertices(mesh: Mesh) -> NDArray[np.int64]:
    """A number per vertex, equal where triangles connect them."""
    return _components(len(mesh.vertices), np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]]))


def _components(n: int, edges: NDArray[np.int64]) -> NDArray[np.int64]:
    """A number per node, from 0, equal where edges `[m, 2]` connect them: labels sink to the smallest neighbour's."""
    label = np.arange(n)
    while len(edges):
        low, high = (f(label[edges[:, 0]], label[edges[:, 1]]) for f in (np.minimum, np.maximum))
        open_edges = low != high
        edges, low, high = edges[open_edges], low[open_edges], high[open_edges]
        np.minimum.at(label, high, low)
        while (label[label] != label).any():
            label = label[label]
    return np.unique(label, return_inverse=True)[1]
