# SPDX-License-Identifier: Apache-2.0
"""Points on the surface of a signed distance field, with its normals, as PLY."""

from pathlib import Path

import numpy as np
import torch

from neurfield.data.signals.mesh import MeshInfo
from neurfield.export.point_cloud import checked_path
from neurfield.export.sdf_mesh import surface
from neurfield.geometry import Mesh, write_mesh
from neurfield.progress import Progress, silent
from neurfield.rendering.sphere_trace import Distance, normals
from neurfield.sampling.surface import SurfaceSampler

_CELLS = 256  # of the mesh that the points are drawn from
_AT_ONCE = 1 << 18


def export_sdf_points(
    field: Distance,
    info: MeshInfo,
    path: str | Path,
    n_points: int = 200_000,
    overwrite: bool = False,
    progress: Progress = silent,
) -> None:
    """Draws points evenly from the surface of a field and writes them in the frame of its source.

    Args:
        path: .ply.
        progress: called with the fraction done; what it raises ends the work.

    Raises:
        UserError: another extension, a number out of range, a file that exists, a field without a surface.
        MachineError: the disk refuses.
    """
    path = checked_path(path, n_points, overwrite)
    mesh = surface(field, _CELLS, lambda part: progress(0.9 * part))
    sampler = SurfaceSampler(torch.from_numpy(mesh.vertices.astype(np.float32)), torch.from_numpy(mesh.faces))
    x = sampler.sample(n_points, torch.Generator().manual_seed(0))
    normal = torch.cat([normals(field, part) for part in x.split(_AT_ONCE)])
    norm = info.normalization
    metadata: dict[str, object] = {"frame": "world", "origin": norm.origin}
    world = norm.to_world(x.double()).numpy()
    write_mesh(Mesh(world, np.empty((0, 3), np.int64), normals=normal.numpy(), metadata=metadata), path)
    progress(1.0)
