# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes as signed distances: OBJ, PLY, STL and OFF, read by trimesh.

Nothing but the file itself is opened: materials and textures are not looked for.
"""

import math
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurfield import ops
from neurfield.data.origin import nearby
from neurfield.data.scene import Normalization
from neurfield.data.signals.grid import check_suffix
from neurfield.errors import UserError, retold
from neurfield.geometry.mesh import Mesh, is_closed
from neurfield.progress import Progress, silent

SUFFIXES = (".obj", ".ply", ".stl", ".off")
UP = (0.0, 1.0, 0.0)  # of pictures and exports, as most files of single objects have it
MARGIN = 0.9  # part of the unit cube's side that the longest side of the mesh takes


@dataclass(frozen=True)
class MeshInfo:
    """What is known of a mesh without its triangles; kept in checkpoints.

    Attributes:
        name, suffix: of the file.
        n_vertices, n_triangles: after vertices of equal position were merged and empty triangles dropped.
        is_closed: every edge has two triangles, in opposite directions.
        low, high: corners of its box, in the units of the file.
    """

    name: str
    suffix: str
    n_vertices: int
    n_triangles: int
    is_closed: bool
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        """Raises ValueError for what no mesh has, as a file may hold it."""
        check_suffix(self.suffix)
        sides = [b - a for a, b in zip(self.low, self.high, strict=True)]
        if len(sides) != 3 or not all(map(math.isfinite, sides)) or min(sides) < 0 or max(sides) == 0:
            raise ValueError(f"expected corners of a box, got {self.low} and {self.high}")
        if min(self.n_vertices, self.n_triangles) < 0:
            raise ValueError(f"expected counts, got {self.n_vertices} vertices and {self.n_triangles} triangles")

    @property
    def scale(self) -> float:
        """Units of the unit cube per unit of the file: a field sees x as scale * x + offset."""
        return MARGIN / max(b - a for a, b in zip(self.low, self.high, strict=True))

    @property
    def offset(self) -> tuple[float, float, float]:
        x, y, z = (0.5 - self.scale * (a + b) / 2 for a, b in zip(self.low, self.high, strict=True))
        return (x, y, z)

    @property
    def normalization(self) -> Normalization:
        """From the world of results, whose origin is near (see neurfield.data.origin), to the unit cube."""
        return nearby(Normalization(self.scale, self.offset))

    def describe(self) -> str:
        """One line for the user."""
        state = "closed" if self.is_closed else "not closed: inside is where the winding number exceeds 1/2"
        size = " x ".join(f"{b - a:.4g}" for a, b in zip(self.low, self.high, strict=True))
        return (
            f"{self.name}{self.suffix}: {self.n_vertices} vertices, {self.n_triangles} triangles, {state}, size {size}"
        )


@dataclass(frozen=True)
class MeshSignal:
    """A mesh in the unit cube: vertices float32 `[n, 3]`, faces int64 `[m, 3]`."""

    info: MeshInfo
    vertices: Tensor = field(repr=False)
    faces: Tensor = field(repr=False)
    source: str = ""

    def to(self, device: torch.device) -> "MeshSignal":
        """The mesh there, itself where it lies there; what is asked of it lies there as well."""
        if self.vertices.device == device:
            return self
        return replace(self, vertices=self.vertices.to(device), faces=self.faces.to(device))

    @cached_property
    def tree(self) -> ops.MeshTree:
        return ops.mesh_tree(self.vertices, self.faces)

    def distance(self, x: Tensor) -> Tensor:
        """Signed distance `[n]` of points `[n, 3]` of the unit cube, in its units; negative inside."""
        distance = ops.mesh_distance(self.tree, x)
        return torch.where(self.inside(x), -distance, distance)

    def sampled(self, side: int) -> Tensor:
        """Signed distances float32 `[1, side, side, side]` in the middles of equal cells of the unit cube, z first."""
        axis = (torch.arange(side) + 0.5) / side
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        return self.distance(torch.stack([x, y, z], dim=-1).view(-1, 3)).view(1, side, side, side)

    def inside(self, x: Tensor) -> Tensor:
        """Whether points `[n, 3]` of the unit cube are inside, bool `[n]`."""
        return ops.mesh_inside(self.tree, x, self.info.is_closed)


def detect(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def read(path: Path, max_megapixels: float = 64.0, progress: Progress = silent) -> MeshSignal:
    """Reads a mesh, merges equal vertices and puts it into the unit cube.

    Raises:
        UserError: trimesh is not installed, or the file is broken, has no triangles, or corners that are not finite.
    """
    vertices, faces = _triangles(path)
    if not len(faces):
        raise UserError(f"{path}: there are no triangles in it; export a mesh with faces")
    if not np.isfinite(vertices).all():
        raise UserError(f"{path}: {int((~np.isfinite(vertices)).any(axis=1).sum())} vertices are NaN or infinite")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise UserError(f"{path}: a triangle names a vertex that is not there; export the mesh again")
    used, faces = np.unique(faces, return_inverse=True)
    unique, merged = np.unique(vertices[used], axis=0, return_inverse=True)
    faces = merged.reshape(-1)[faces.reshape(-1)].reshape(-1, 3)
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    low, high = unique.min(axis=0), unique.max(axis=0)
    if not len(faces) or not (high - low).max() > 0:
        raise UserError(f"{path}: all its triangles are points or lines; export the mesh again")
    corners = (tuple(float(v) for v in corner) for corner in (low, high))
    info = MeshInfo(path.stem, path.suffix.lower(), len(unique), len(faces), is_closed(Mesh(unique, faces)), *corners)
    unit = unique * info.scale + np.array(info.offset)
    return MeshSignal(info, torch.from_numpy(unit.astype(np.float32)), torch.from_numpy(faces), str(path))


def _triangles(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices float64 `[n, 3]` and faces int64 `[m, 3]` as the file has them."""
    try:
        import trimesh
    except ImportError:
        raise UserError(f"{path}: meshes are read by trimesh, which is not installed: pip install trimesh") from None
    try:
        with path.open("rb") as file:  # without a path, trimesh cannot follow names of other files
            loaded: Any = trimesh.load(
                file, file_type=path.suffix.lower()[1:], process=False, force="mesh", skip_materials=True
            )
        return np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces, np.int64).reshape(-1, 3)
    except Exception as error:  # what its readers raise for broken files is not documented
        raise retold(error, f"{path}: not a whole triangle mesh", "export it again") from None
