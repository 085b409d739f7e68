# SPDX-License-Identifier: Apache-2.0
"""The surface of a signed distance field, by the same marching cubes as that of a density."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from neurfield.data.signals.mesh import UP, MeshInfo
from neurfield.errors import UserError
from neurfield.export.density_mesh import density_mesh
from neurfield.export.mesh_options import check_mesh_export
from neurfield.export.occupancy_distance import COARSE, OccupancyDistance, occupancy_mesh
from neurfield.files import refuse_existing
from neurfield.geometry import Mesh, MeshReport, keep_large_components, report, write_mesh
from neurfield.geometry.mesh import face_normals
from neurfield.geometry.simplify import simplified
from neurfield.progress import Progress, silent
from neurfield.rendering.sphere_trace import Distance
from neurfield.sampling.evaluate import evaluate

_LIPSCHITZ = 1.5  # how much faster than a distance a learned field may change


def sdf_mesh(field: Distance, resolution: int, progress: Progress = silent) -> Mesh:
    """The surface of distance 0 in the unit cube, `resolution` cells along the longest side of what is inside.

    Of a distance that is made of an occupancy field, the surface of that field itself.
    """
    if isinstance(field, OccupancyDistance):
        return occupancy_mesh(field.field, resolution, progress)
    centers = (torch.arange(COARSE) + 0.5) / COARSE
    coarse = torch.cartesian_prod(centers, centers, centers)
    reach = _LIPSCHITZ * 3**0.5 / 2 / COARSE
    # everything inside counts, too: cells that are not looked at are outside
    occupied = (evaluate(lambda x: field(x)[:, 0], coarse) < reach).view(COARSE, COARSE, COARSE).numpy()
    steepness = resolution / 2  # marching cubes see the logarithm of a density, cut at 3: linear within 6 cells

    def density(x: Tensor) -> Tensor:
        return torch.exp(-steepness * field(x)[:, 0])

    return density_mesh(density, [occupied], resolution, 1.0, progress)


def surface(field: Distance, resolution: int, progress: Progress = silent) -> Mesh:
    """The same; raises UserError where there is none."""
    mesh = sdf_mesh(field, resolution, progress)
    if not len(mesh.faces):
        raise UserError("the field has no surface: no point is inside; train longer")
    return mesh


def export_sdf_mesh(
    field: Distance,
    info: MeshInfo,
    path: str | Path,
    resolution: int = 256,
    frame: Literal["world", "unit"] = "world",
    min_component: float = 0.0,
    max_triangles: int | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> MeshReport:
    """Writes the surface of a field as .ply, .obj, .glb or .stl, in the frame of its source (whose origin is moved
    where it is far, see MeshInfo.normalization) or in that of the unit cube.

    About `max_triangles` are left of more, None: all.

    Raises:
        UserError: numbers out of range, unknown extension or frame, a file that exists, a field without a surface.
        MachineError: the disk refuses.
    """
    path = Path(path)
    check_mesh_export(path, resolution, min_component, frame, max_triangles)
    refuse_existing(path, overwrite)
    mesh = surface(field, resolution, lambda f: progress(0.9 * f))
    mesh = keep_large_components(mesh, min_component)
    if max_triangles is not None:
        mesh = simplified(mesh, max_triangles)
    metadata: dict[str, object] = {"frame": frame, "up": UP, "resolution": resolution}
    if frame == "world":
        norm = info.normalization
        mesh = replace(mesh, vertices=norm.to_world(torch.from_numpy(mesh.vertices)).numpy())
        metadata["origin"] = norm.origin
    mesh = replace(mesh, normals=face_normals(mesh), up=UP, metadata=metadata)
    write_mesh(mesh, path)
    return report(mesh)
