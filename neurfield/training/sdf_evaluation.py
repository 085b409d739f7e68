# SPDX-License-Identifier: Apache-2.0
"""Measures a signed distance field against its mesh: IoU of the insides, Chamfer distance of the surfaces."""

from typing import Any

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.data.signals.mesh import MeshSignal
from neurfield.export.occupancy_distance import OccupancyDistance
from neurfield.export.sdf_mesh import sdf_mesh
from neurfield.metrics.shape import chamfer, iou
from neurfield.progress import Progress, silent
from neurfield.sampling.evaluate import evaluate
from neurfield.sampling.surface import SurfaceSampler

IOU_POINTS = 1 << 20
CHAMFER_POINTS = 1 << 17
CHAMFER_RESOLUTION = 256
_SEED = 2024


def evaluate_sdf(field: nn.Module, signal: MeshSignal, progress: Progress = silent) -> dict[str, Any]:
    """`iou`, `chamfer` (units of the file), `chamfer_percent` of the box's diagonal, `mean_error` of the distances at
    the mesh (units of the file), `n_params` and the `protocol`; without a surface Chamfer and, of an occupancy field,
    mean_error are None."""
    info, is_solid = signal.info, isinstance(field, OccupancyDistance)

    def value(x: Tensor) -> Tensor:  # of an occupancy the logit says as much and makes no mesh
        return -field.field(x)[:, 0] if isinstance(field, OccupancyDistance) else field(x)[:, 0]

    generator = torch.Generator().manual_seed(_SEED)
    low, high = signal.vertices.amin(0), signal.vertices.amax(0)
    x = low + (high - low) * torch.rand(IOU_POINTS, 3, generator=generator)
    overlap = iou(evaluate(value, x) < 0, signal.inside(x))
    progress(0.4)
    on_target = SurfaceSampler(signal.vertices, signal.faces).sample(CHAMFER_POINTS, generator)
    errors = None if is_solid else evaluate(value, on_target).abs()
    mesh = sdf_mesh(field, CHAMFER_RESOLUTION, lambda f: progress(0.4 + 0.5 * f))
    distance = None
    if len(mesh.faces):
        vertices, faces = torch.from_numpy(mesh.vertices).float(), torch.from_numpy(mesh.faces)
        on_ours = SurfaceSampler(vertices, faces).sample(CHAMFER_POINTS, generator)
        tree = ops.mesh_tree(vertices, faces)
        there, back = ops.mesh_distance(signal.tree, on_ours), ops.mesh_distance(tree, on_target)
        distance = chamfer(there, back) / info.scale
        errors = back if is_solid else errors  # what an OccupancyDistance says far from its surface is a lower bound
    diagonal = float((high - low).norm()) / info.scale
    progress(1.0)
    return {
        "iou": overlap,
        "chamfer": distance,
        "chamfer_percent": None if distance is None else 100 * distance / diagonal,
        "mean_error": None if errors is None else float(errors.double().mean()) / info.scale,
        "n_params": sum(param.numel() for param in field.parameters()),
        "protocol": {
            "iou": f"{IOU_POINTS} uniform points in the box of the mesh",
            "chamfer": f"mean of both mean distances, {CHAMFER_POINTS} points on each surface to the other surface, "
            f"marching cubes of {CHAMFER_RESOLUTION} cells, units of the file; also in percent of the box's diagonal",
            "mean_error": ("distance to the field's surface" if is_solid else "|field|")
            + f" at {CHAMFER_POINTS} points of the mesh, units of the file",
        },
    }
