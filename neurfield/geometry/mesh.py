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
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    normals: NDArray[np.float32] | None = None
    colors: NDArray[np.uint8] | None = None
    metadata: dict[str, object] = field(default_factory=dict)
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)


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


def _component_of_vertices(mesh: Mesh) -> NDArray[np.int64]:
    """A number per vertex, equal where triangles connect them: labels sink to the smallest neighbour's."""
    label = np.arange(len(mesh.vertices))
    edges = np.concatenate([mesh.faces[:, [0, 1]], mesh.faces[:, [1, 2]]])
    while len(edges):
        low, high = (f(label[edges[:, 0]], label[edges[:, 1]]) for f in (np.minimum, np.maximum))
        open_edges = low != high
        edges, low, high = edges[open_edges], low[open_edges], high[open_edges]
        np.minimum.at(label, high, low)
        while (label[label] != label).any():
            label = label[label]
    return np.unique(label, return_inverse=True)[1]
