# SPDX-License-Identifier: Apache-2.0
"""What a procedural scene is made of: parts (a solid and its surface), groups of parts, rays against them.

Every part is traced alone, and only by the rays that meet its box in front of what was already hit: a thin railing
costs nothing to the rest of the picture, and the step count stays that of one simple solid.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from neurfield.data.procedural.shapes import Array, Distance, f32

Point = tuple[float, float, float]
FAR = f32(1e9)
HIT = f32(1e-4)  # a ray ends this close to a surface, 1/70 of a pixel of the default views
MAX_STEPS = 90
Candidates = Iterable[tuple[int, NDArray[np.intp]]]  # index of a part, and of the rays that may meet it


@dataclass(frozen=True)
class Surface:
    """How points reflect light.

    Attributes:
        albedo: linear RGB `[3, n or 1]`.
        gloss: 0 = matt ... 1 = polished, `[n]` or one number; sets strength and width of the highlight.
        metal: 0 or 1: metals tint what they mirror and have little diffuse light.
        glow: linear RGB that the surface emits, `[3, n or 1]` or one number.
    """

    albedo: Array
    gloss: Array | float = 0.15
    metal: float = 0.0
    glow: Array | float = 0.0


def cube(centre: Sequence[float], reach: float) -> tuple[Point, Point]:
    """Corners of a box that reaches `reach` from its centre in every direction."""
    x, y, z = centre
    return (x - reach, y - reach, z - reach), (x + reach, y + reach, z + reach)


def plain(
    color: Array, gloss: float = 0.15, metal: float = 0.0, glow: float = 0.0
) -> Callable[[Array, Array], Surface]:
    """The same everywhere; `glow` times the colour is emitted."""
    return lambda points, normals: Surface(color, gloss, metal, color * f32(glow))


@dataclass(frozen=True)
class Part:
    """One solid.

    Attributes:
        distance: signed distance, or a lower bound whose slope is at most 1 / step.
        low, high: corners of a box around it.
        surface: colour at points `[3, n]` with unit normals `[3, n]`.
        step: fraction of the distance that is safe to walk.
    """

    distance: Distance
    low: Point
    high: Point
    surface: Callable[[Array, Array], Surface]
    step: float = 1.0


@dataclass(frozen=True)
class Group:
    """Parts that stand together, for culling; its box holds theirs."""

    children: Sequence["Group | Part"]

    @property
    def low(self) -> tuple[float, ...]:
        return tuple(np.min([child.low for child in self.children], axis=0))

    @property
    def high(self) -> tuple[float, ...]:
        return tuple(np.max([child.high for child in self.children], axis=0))


class Model:
    """A scene ready to be traced: the tree of boxes and its parts in a fixed order."""

    def __init__(self, root: Group) -> None:
        self.parts: list[Part] = []
        self.leaves: list[Node] = []
        self.root = self._index(root)
        self.low, self.high = f32(root.low), f32(root.high)

    def _index(self, node: Group | Part) -> "Node":
        low, high = f32(node.low)[:, None], f32(node.high)[:, None]
        if isinstance(node, Part):
            leaf = Node(low, high, (), len(self.parts))
            self.parts.append(node)
            self.leaves.append(leaf)
            return leaf
        return Node(low, high, tuple(self._index(child) for child in node.children), -1)

    def cast(self, origins: Array, directions: Array) -> tuple[Array, NDArray[np.int16]]:
        """First hits of rays.

        Args:
            origins: `[3, n]` or `[3, 1]`; outside of all solids.
            directions: unit `[3, n]`.

        Returns:
            distance along each ray `[n]` (FAR where nothing is hit) and index of the part `[n]` (-1).
        """
        rays, t_hit, part_hit = _start(origins, directions)
        self._visit(self.root, rays, t_hit, part_hit)
        return t_hit, part_hit

    def cast_among(self, origins: Array, directions: Array, candidates: Candidates) -> tuple[Array, NDArray[np.int16]]:
        """As cast, but `candidates` names the only parts to be tried and the rays that try them."""
        rays, t_hit, part_hit = _start(origins, directions)
        for part_idx, rows in candidates:
            self._visit(self.leaves[part_idx], rays.take(rows), t_hit, part_hit)
        return t_hit, part_hit

    def _visit(self, node: "Node", rays: "_Rays", t_hit: Array, part_hit: NDArray[np.int16]) -> None:
        enter, leave = rays.span(node.low, node.high)
        inside = np.flatnonzero((enter < leave) & (enter < t_hit[rays.index]))
        if inside.size == 0:
            return
        rays = rays.take(inside)
        if node.part_idx < 0:
            for child in sorted(node.children, key=rays.order):
                self._visit(child, rays, t_hit, part_hit)
            return
        limit = np.minimum(leave[inside], t_hit[rays.index])
        found, t = _trace(self.parts[node.part_idx], rays, enter[inside], limit)
        t_hit[rays.index[found]] = t
        part_hit[rays.index[found]] = node.part_idx

    def normals(self, points: Array, part_idx: NDArray[np.int16], width: float = 4e-4) -> Array:
        """Unit normals `[3, n]` at points of known parts, by differences over a tetrahedron of the given half width."""
        normals = np.zeros_like(points)
        for part, rows in self.by_part(part_idx):
            normals[:, rows] = _gradient(part.distance, points[:, rows], f32(width))
        return normals

    def by_part(self, part_idx: NDArray[np.int16]) -> Iterator[tuple[Part, NDArray[np.intp]]]:
        """Every part that occurs, with the places where it does."""
        order = np.argsort(part_idx, kind="stable")
        ids, starts = np.unique(part_idx[order], return_index=True)
        for i, idx in enumerate(ids):
            if idx >= 0:
                yield self.parts[idx], order[starts[i] : starts[i + 1] if i + 1 < len(ids) else None]

    def nearest(self, points: Array, reach: float) -> tuple[Array, NDArray[np.int16]]:
        """Signed distance `[n]` to the union and the part that is nearest; correct within `reach`, larger beyond."""
        distance, nearest = np.full(points.shape[1], FAR), np.full(points.shape[1], -1, np.int16)
        for idx, part in enumerate(self.parts):
            low, high = f32(part.low)[:, None] - reach, f32(part.high)[:, None] + reach
            rows = np.flatnonzero(((points >= low) & (points <= high)).all(axis=0))
            if rows.size:
                d = part.distance(points[:, rows])
                closer = d < distance[rows]
                distance[rows[closer]] = d[closer]
                nearest[rows[closer]] = idx
        return distance, nearest


@dataclass(frozen=True)
class Node:
    """Box `[3, 1]` of a group (children) or of one part (its index)."""

    low: Array
    high: Array
    children: tuple["Node", ...]
    part_idx: int


@dataclass(frozen=True)
class _Rays:
    origins: Array
    directions: Array
    inverse: Array
    index: NDArray[np.intp]  # place of each ray in the caller's arrays

    def take(self, rows: NDArray[np.intp]) -> "_Rays":
        if rows.size == self.index.size:
            return self
        return _Rays(self.origins[:, rows], self.directions[:, rows], self.inverse[:, rows], self.index[rows])

    def span(self, low: Array, high: Array) -> tuple[Array, Array]:
        """Distances at which each ray enters (at least 0) and leaves a box."""
        a, b = (low - self.origins) * self.inverse, (high - self.origins) * self.inverse
        enter, leave = np.minimum(a, b), np.maximum(a, b)
        return (
            np.maximum(np.maximum(np.maximum(enter[0], enter[1]), enter[2]), 0),
            np.minimum(np.minimum(leave[0], leave[1]), leave[2]),
        )

    def order(self, node: Node) -> float:
        """Distance of a box along the first ray: nearer boxes are traced first and hide the others."""
        centre = (node.low + node.high)[:, 0] / 2
        return float(((centre - self.origins[:, 0]) * self.directions[:, 0]).sum())


def _start(origins: Array, directions: Array) -> tuple[_Rays, Array, NDArray[np.int16]]:
    """Rays and their results before anything was hit; no component of a direction is left at 0."""
    n = directions.shape[1]
    directions = np.where(np.abs(directions) < 1e-9, f32(1e-9), directions)
    rays = _Rays(np.broadcast_to(origins, directions.shape), directions, f32(1 / directions), np.arange(n))
    return rays, np.full(n, FAR), np.full(n, -1, np.int16)


def _trace(part: Part, rays: _Rays, start: Array, limit: Array) -> tuple[NDArray[np.intp], Array]:
    """Sphere tracing: rows of `rays` that hit the part before `limit`, and where."""
    rows, t = np.arange(start.size), start.copy()
    o, d, step = rays.origins, rays.directions, f32(part.step)
    found_rows, found_t = [], []
    for i in range(MAX_STEPS):
        distance = part.distance(o + d * t)
        # rays that graze a surface creep: their tolerance grows, to a sixth of a pixel at the last step
        hit = distance < HIT * (1 + i / 8)
        t = t + distance * step
        alive = ~hit & (t < limit)
        if hit.any():
            found_rows.append(rows[hit])
            found_t.append(t[hit])
        keep = np.flatnonzero(alive)
        if keep.size == 0:
            break
        if keep.size < t.size:
            rows, t, limit, o, d = rows[keep], t[keep], limit[keep], o[:, keep], d[:, keep]
    if not found_rows:
        return np.empty(0, np.intp), np.empty(0, np.float32)
    return np.concatenate(found_rows), np.concatenate(found_t)


def _gradient(distance: Distance, p: Array, h: Array) -> Array:
    corners = f32([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]])[:, :, None]
    gradient = sum(corner * distance(p + corner * h) for corner in corners)
    return gradient / np.maximum(np.sqrt((gradient * gradient).sum(axis=0)), f32(1e-12))
