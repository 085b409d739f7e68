# SPDX-License-Identifier: Apache-2.0
"""`neurfield export mesh`: the surface of a trained field as PLY, OBJ or GLB, with colours and normals."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from neurfield.cameras.poses import up
from neurfield.errors import UserError
from neurfield.export.density_mesh import (
    CUT,
    DensityFn,
    density_mesh,
    evaluate,
    occupied_cells,
    reaches_beyond,
    surface_colors,
    surface_level,
)
from neurfield.export.mesh_options import check_mesh_export
from neurfield.export.seen import seen_vertices
from neurfield.fields.surface import SurfaceField
from neurfield.files import refuse_existing
from neurfield.geometry import Mesh, MeshReport, keep_large_components, report, write_mesh
from neurfield.geometry.mesh import drop_cavities, face_normals, with_faces
from neurfield.registry import lookup
from neurfield.rendering.renderer import image_rays
from neurfield.rendering.volume import march_rays, sample_positions

if TYPE_CHECKING:
    from neurfield.run import Run

SURFACES = {
    "auto": "seen where the scene has surroundings beyond the unit cube, else closed",
    "closed": "all of it",
    "seen": "without triangles that no training view sees",
}
LEVEL_VIEWS, LEVEL_ROWS = 24, 24  # views and rows of each that decide an automatic level


@dataclass(frozen=True)
class MeshExport:
    """What was written.

    Attributes:
        level: density per world unit.
        report: of the mesh, in the frame of the file.
        n_hidden: triangles that no training view sees and that were left out.
        is_cut: whether the scene reaches beyond the cube that was looked at.
    """

    path: Path
    level: float
    frame: str
    report: MeshReport
    is_cut: bool
    n_hidden: int = 0


def export_mesh(
    run: "Run",
    path: str | Path,
    resolution: int = 256,
    level: float | None = None,
    frame: Literal["world", "unit"] = "world",
    min_component: float = 0.01,
    extent: int = 1,
    surface: Literal["auto", "closed", "seen"] = "auto",
    overwrite: bool = False,
    progress: Callable[[float], None] = lambda fraction: None,
) -> MeshExport:
    """Writes the surface of a field.

    Args:
        run: trained.
        path: .ply, .obj or .glb.
        resolution: cells along the longest side of what is occupied.
        level: density per world unit that is the surface; None: see density_mesh.surface_level, or where the distance
            of a surface field is 0.
        frame: "world" = that of the input, "unit" = the field's own.
        min_component: pieces with fewer triangles than this share of the largest one's are dropped.
        extent: side of the cube that is looked at, in unit space: 1 = what the cameras look at, aabb_scale = the whole
            box of the field, surroundings included.
        surface: "closed" = all of it, "seen" = without what no training view sees, "auto" = seen where the scene has
            surroundings beyond the unit cube: what lies behind its surfaces was never photographed.
        overwrite: replace a file that exists.
        progress: called with the fraction done.

    Raises:
        UserError: numbers out of range, unknown extension or frame, a file that exists, a field without a surface.
        MachineError: the disk refuses.
    """
    path = Path(path)
    check_mesh_export(path, resolution, min_component, frame)
    lookup(SURFACES, surface, "surface")
    if level is not None and not (level > 0 and math.isfinite(level)):
        raise UserError(f"--level must be a density above 0, got {level:g}")
    extents = [2**cascade for cascade in range(run.grid.n_cascades)]
    if extent not in extents:
        valid = ", ".join(map(str, extents))
        raise UserError(f"--extent must be one of {valid} (the field's box has side {extents[-1]}), got {extent}")
    refuse_existing(path, overwrite)
    run = run.on_cpu()
    norm = run.views.normalization
    occupied, field = occupied_cells(run.grid, extent), run.field
    if by_distance := level is None and isinstance(field, SurfaceField):
        unit_level, crossed = float(0.5 / field.beta), 1.0
        value = _crossing(field, resolution / extent)
    else:
        unit_level = crossed = level / norm.scale if level is not None else automatic_level(run, extent)

        def value(x: torch.Tensor) -> torch.Tensor:
            return field.density(x)[0]

    mesh = density_mesh(value, occupied, resolution, crossed, lambda f: progress(0.6 * f))
    mesh, n_hidden = drop_cavities(mesh), 0
    if surface == "seen" or (surface == "auto" and reaches_beyond(run.grid, 1)):
        n_hidden = len(mesh.faces)
        mesh = _seen(run, mesh, resolution, lambda f: progress(0.6 + 0.2 * f))
        n_hidden -= len(mesh.faces)
    mesh = keep_large_components(mesh, min_component)
    if not len(mesh.faces):
        way = "train longer" if by_distance else "give a lower --level, or train longer"
        raise UserError(f"no surface at density {unit_level * norm.scale:.3g}; {way}")
    mesh = _painted(run, mesh, resolution)
    progress(0.95)
    mesh = _in_frame(run, mesh, frame, unit_level * norm.scale, resolution)
    write_mesh(mesh, path)
    return MeshExport(path, unit_level * norm.scale, frame, report(mesh), reaches_beyond(run.grid, extent), n_hidden)


def _crossing(field: SurfaceField, scale: float) -> DensityFn:
    """What crosses 1 on the surface, and whose logarithm, which density_mesh interpolates, is the distance times
    `scale`: at most a cell long."""
    return lambda x: torch.exp((field.distance(x) * -scale).clamp(-CUT, CUT))


def automatic_level(run: "Run", extent: int = 1) -> float:
    """Level in unit space from what rays of up to LEVEL_VIEWS training views meet in the cube of side `extent`.

    Raises:
        UserError: no ray ends anywhere.
    """
    views = run.views.train
    chosen = views[:: max(len(views) // LEVEL_VIEWS, 1)][:LEVEL_VIEWS]
    norm = run.views.normalization
    origins, directions = [], []
    for view in chosen:
        camera = run.cameras[view].transformed(norm.scale, torch.tensor(norm.offset))
        width, height = camera.sizes[0].tolist()
        n_rows = min(LEVEL_ROWS, height)
        for k in range(n_rows):
            row = (2 * k + 1) * height // (2 * n_rows)
            rays = image_rays(camera, row, row + 1)
            step = max(width // 64, 1)
            origins.append(rays[0][::step])
            directions.append(rays[1][::step])
    o, d = torch.cat(origins), torch.cat(directions)
    samples = march_rays(run.grid, o, d, run.renderer.options)
    x, _ = sample_positions(samples, o, d)
    inside = (x - 0.5).abs().amax(dim=1) < extent / 2
    sigmas = evaluate(lambda x: run.field.density(x)[0], x[inside])
    level = surface_level(sigmas, *(part[inside] for part in (samples.t_starts, samples.t_ends, samples.ray_indices)))
    if level is None:
        raise UserError("the field is empty: no ray of the training views ends anywhere; train longer")
    return level


def _seen(run: "Run", mesh: Mesh, resolution: int, progress: Callable[[float], None]) -> Mesh:
    """The triangles with a vertex that a training view sees."""
    norm = run.views.normalization
    vertices = norm.to_world(torch.from_numpy(mesh.vertices).float())
    seen = seen_vertices(run, vertices, _cell(mesh, resolution) / norm.scale, progress).numpy()
    return with_faces(mesh, np.asarray(seen[mesh.faces].any(axis=1)))


def _cell(mesh: Mesh, resolution: int) -> float:
    """Side of a cell that a mesh of the whole was made of, in unit space."""
    return float((mesh.vertices.max(axis=0) - mesh.vertices.min(axis=0)).max() / resolution)


def _painted(run: "Run", mesh: Mesh, resolution: int) -> Mesh:
    normals = face_normals(mesh)
    cell = _cell(mesh, resolution)
    vertices = torch.from_numpy(mesh.vertices.astype(np.float32))
    return replace(mesh, normals=normals, colors=surface_colors(run.field, vertices, torch.from_numpy(normals), cell))


def _in_frame(run: "Run", mesh: Mesh, frame: str, level: float, resolution: int) -> Mesh:
    """The mesh in the frame asked for, with the way back in its metadata."""
    norm = run.views.normalization
    world_from_unit = np.eye(4)
    world_from_unit[:3, :3] /= norm.scale
    world_from_unit[:3, 3] = -np.array(norm.offset) / norm.scale
    if frame == "world":
        mesh = replace(mesh, vertices=(mesh.vertices - np.array(norm.offset)) / norm.scale)
    mesh = replace(mesh, up=up(run.cameras.c2w[run.views.train].double().numpy()))
    metadata = {
        "frame": frame, "up": mesh.up, "world_from_unit": world_from_unit.tolist(), "level_per_world_unit": level,
        "resolution": resolution,
    }  # fmt: skip
    return replace(mesh, metadata=metadata)
