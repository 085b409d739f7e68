# SPDX-License-Identifier: Apache-2.0
"""`neurfield export mesh`: the surface of a trained field as PLY, OBJ or GLB, with colours and normals."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from neurfield import ops
from neurfield.cameras.poses import up
from neurfield.errors import UserError
from neurfield.export.density_mesh import (
    CUT,
    density_mesh,
    evaluate,
    occupied_box,
    occupied_cells,
    reaches_beyond,
)
from neurfield.export.depth_views import BAND_CELLS, DepthViews, depth_views, fused_distance, seen_vertices
from neurfield.export.extent import chosen_extent
from neurfield.export.mesh_options import check_mesh_export
from neurfield.export.surface_color import SurfaceColors
from neurfield.export.texture import as_bytes, textured
from neurfield.files import refuse_existing
from neurfield.geometry import Mesh, MeshReport, keep_large_components, report, write_mesh
from neurfield.geometry.mesh import drop_cavities, face_normals, keep_components_of, spread_over_faces, with_faces
from neurfield.geometry.mesh_files import SHAPE_ALONE, files_of_mesh
from neurfield.geometry.simplify import simplified
from neurfield.progress import Progress, silent
from neurfield.registry import lookup

if TYPE_CHECKING:
    from neurfield.run import Run

TEXTURED_TRIANGLES = 50_000  # cutting and laying out more takes minutes
_UNPAINTED, _UNTEXTURED = 0.85, 0.1  # share of the time that the surface takes, before its colours or its texture

SURFACES = {
    "auto": "seen where the scene has surroundings beyond the unit cube, else closed",
    "closed": "with what is hidden from all training views, which is solid",
    "seen": "without triangles that no training view sees",
}


@dataclass(frozen=True)
class MeshExport:
    """What was written.

    Attributes:
        found_by: what the surface is: where a density is crossed, or where training views see something.
        report: of the mesh, in the frame of the file.
        n_hidden: triangles that no training view sees and that were left out.
        is_cut: whether the scene reaches beyond the cube that was looked at.
        extent: side of that cube.
        unit_share: of what training views see, which the unit cube holds, where the extent was chosen by it.
    """

    path: Path
    found_by: str
    frame: str
    report: MeshReport
    is_cut: bool
    extent: int
    unit_share: float | None = None
    n_hidden: int = 0


def export_mesh(
    run: "Run",
    path: str | Path,
    resolution: int = 256,
    level: float | None = None,
    frame: Literal["world", "unit"] = "world",
    min_component: float = 0.01,
    extent: int | None = None,
    surface: Literal["auto", "closed", "seen"] = "auto",
    max_triangles: int | None = None,
    texture: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MeshExport:
    """Writes the surface of a field.

    Args:
        run: trained.
        path: .ply, .obj or .glb, or .stl, which has no colours.
        resolution: cells along the longest side of what is occupied.
        level: density per world unit that is the surface; None: what all training views see by the depths rendered in
            them, see depth_views.fused_distance.
        frame: "world" = that of the input, "unit" = the field's own.
        min_component: pieces with fewer triangles than this share of the largest one's are dropped.
        extent: side of the cube that is looked at, in unit space: 1 = what the cameras look at, aabb_scale = the whole
            box of the field, surroundings included. None: 1, or 2 where the scene ends there, see
            neurfield.export.extent.
        surface: "closed" = with what is hidden from all training views and joined to what is not, "seen" = without what
            no training view sees, "auto" = seen where the scene has surroundings beyond the unit cube: what lies behind
            its surfaces was never photographed.
        max_triangles: about as many are left of more; None: all, or TEXTURED_TRIANGLES under a texture.
        texture: side of the texture in texels that holds the colours; None: the vertices do.
        overwrite: replace a file that exists.
        progress: called with the fraction done.

    Raises:
        UserError: numbers out of range, unknown extension or frame, a file that exists, a field without a surface.
        MachineError: the disk refuses.
    """
    path = Path(path)
    check_mesh_export(path, resolution, min_component, frame, max_triangles, texture)
    lookup(SURFACES, surface, "surface")
    if level is not None and not (isinstance(level, Real) and 0 < level < math.inf):
        raise UserError(f"--level must be a density above 0, got {level!r}")
    extents = [2**cascade for cascade in range(run.grid.n_cascades)]
    if extent is not None and extent not in extents:
        valid = ", ".join(map(str, extents))
        raise UserError(f"--extent must be one of {valid} (the field's box has side {extents[-1]}), got {extent}")
    for file in files_of_mesh(path, texture is not None):
        refuse_existing(file, overwrite)
    drawn = run.at(None, None)  # of what moves, all views at one time
    run = drawn.on_cpu()
    norm = run.views.normalization
    unit_share = None
    if extent is None:
        extent, unit_share = chosen_extent(drawn)
    occupied, is_cut = occupied_cells(run.grid, extent), reaches_beyond(run.grid, extent)
    further = f", or --extent {extents[-1]}" if is_cut else ""
    if not occupied[-1].any():
        raise UserError(f"the field is empty in the cube of side {extent}; train longer{further}")
    low, high = occupied_box(occupied)
    cell, middle = float((high - low).max() / resolution), norm.to_world(torch.from_numpy((low + high) / 2).float())
    to_paint = _UNPAINTED if texture is None else _UNTEXTURED

    def found_part(fraction: float) -> None:
        progress(to_paint * fraction)

    hides = surface == "seen" or (surface == "auto" and reaches_beyond(run.grid, 1))
    views = DepthViews(run.cameras[[]], torch.empty(0))
    if hides or level is None:
        views = depth_views(drawn, middle, cell / norm.scale, resolution, lambda f: found_part(0.5 * f))
    value, crossed, found_by = _crossing(run, level, views, cell)
    done = 0.5 if views else 0.0
    mesh = density_mesh(value, occupied, resolution, crossed, lambda f: found_part(done + (0.9 - done) * f))
    if level is not None:
        mesh = drop_cavities(mesh)  # by depths hidden ones are solid: a piece that is inside out is a room
    n_closed = len(mesh.faces)
    if views and n_closed:
        mesh = _seen(run, mesh, views, cell, level is not None, hides, lambda f: found_part(0.9 + 0.1 * f))
    n_hidden = n_closed - len(mesh.faces) if hides else 0
    mesh = keep_large_components(mesh, min_component)
    if not len(mesh.faces):
        way = "train longer" if level is None else "give a lower --level, or train longer"
        raise UserError(f"no surface at {found_by} in the cube of side {extent}; {way}{further}")
    if texture is not None and max_triangles is None:
        max_triangles = TEXTURED_TRIANGLES
    off = BAND_CELLS * cell
    if max_triangles is not None and len(mesh.faces) > max_triangles:
        whole, mesh = mesh, simplified(mesh, max_triangles)  # whose pieces all count: thin parts, as a spire, come off
        off += _distance_to(mesh, whole)
    found = report(_in_frame(run, mesh, frame, found_by, resolution))  # cuts of a texture are no holes
    if path.suffix.lower() not in SHAPE_ALONE:
        mesh = _painted(
            mesh, SurfaceColors(drawn, views, cell, off), texture, lambda f: progress(to_paint + (1 - to_paint) * f)
        )
    write_mesh(_in_frame(run, mesh, frame, found_by, resolution), path)
    return MeshExport(path, found_by, frame, found, is_cut, extent, unit_share, n_hidden)


def _crossing(
    run: "Run", level: float | None, views: DepthViews, cell: float
) -> tuple[Callable[[torch.Tensor], torch.Tensor], float, str]:
    """What crosses a number on the surface, that number, and the surface in words."""
    field, norm = run.field, run.views.normalization
    if level is not None:
        return lambda x: field.density(x)[0], level / norm.scale, f"density {level:.4g} per world unit"

    def fused(x: torch.Tensor) -> torch.Tensor:  # density_mesh interpolates its logarithm: the distance
        return torch.exp(-CUT * fused_distance(views, norm.to_world(x), cell / norm.scale, in_world))

    def in_world(points: torch.Tensor) -> torch.Tensor:
        return field.density(norm.to_unit(points))[0] * norm.scale

    return fused, 1.0, f"depths of {len(views)} training view{'s' * (len(views) > 1)}"


def _seen(
    run: "Run",
    mesh: Mesh,
    views: DepthViews,
    cell: float,
    in_front: bool,
    hides: bool,
    progress: Progress,
) -> Mesh:
    """The triangles that views see, `hides`, or the pieces that have one; see seen_vertices."""
    norm = run.views.normalization

    def is_seen(vertices: torch.Tensor) -> torch.Tensor:
        return seen_vertices(views, norm.to_world(vertices), cell / norm.scale, in_front)

    seen = evaluate(is_seen, torch.from_numpy(mesh.vertices).float(), progress).numpy() > 0
    # pieces that no view sees lie hidden where few views look, as in the corners of the cube
    return with_faces(mesh, np.asarray(seen[mesh.faces].any(axis=1))) if hides else keep_components_of(mesh, seen)


def _painted(mesh: Mesh, colors: SurfaceColors, texture: int | None, progress: Progress) -> Mesh:
    """The mesh with colours in its vertices or in a texture; those around where nothing is seen."""
    normals, share = face_normals(mesh), 0.02 if texture else 1.0
    found = spread_over_faces(mesh.faces, colors(mesh.vertices, normals, lambda f: progress(share * f)))
    if texture is None:
        return replace(mesh, normals=normals, colors=as_bytes(found))
    return textured(mesh, texture, colors, found, lambda f: progress(share + (1 - share) * f))


def _distance_to(mesh: Mesh, other: Mesh) -> float:
    """How far the triangles of a mesh lie off another one, but for a twentieth of them."""
    tree = ops.mesh_tree(torch.from_numpy(other.vertices).float(), torch.from_numpy(other.faces))
    middles = torch.from_numpy(mesh.vertices[mesh.faces].mean(axis=1)).float()
    return float(np.quantile(ops.mesh_distance(tree, middles).numpy(), 0.95))  # torch's takes 16 million at most


def _in_frame(run: "Run", mesh: Mesh, frame: str, found_by: str, resolution: int) -> Mesh:
    """The mesh in the frame asked for, with the way back in its metadata."""
    norm = run.views.normalization
    world_from_unit = np.eye(4)
    world_from_unit[:3, :3] /= norm.scale
    world_from_unit[:3, 3] = -np.array(norm.offset) / norm.scale
    if frame == "world":
        mesh = replace(mesh, vertices=(mesh.vertices - np.array(norm.offset)) / norm.scale)
    mesh = replace(mesh, up=up(run.cameras.c2w[run.views.train].double().numpy()))
    metadata = {
        "frame": frame, "up": mesh.up, "world_from_unit": world_from_unit.tolist(), "surface": found_by,
        "resolution": resolution, "origin": norm.origin,
    }  # fmt: skip
    return replace(mesh, metadata=metadata)
