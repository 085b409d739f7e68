# SPDX-License-Identifier: Apache-2.0
"""Colours of a surface: what the training views see there.

A ray from a camera to a place has all that this view shows of it, such as the mist in front of a surface that training
has not made sharp. Along the normal nobody may ever have looked, and what a field shows there is noise.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurfield.export.density_mesh import Progress, evaluate
from neurfield.export.depth_views import DepthViews, best_views
from neurfield.fields.conditions import Conditions

if TYPE_CHECKING:
    from neurfield.run import Run

_VIEWS = 6  # that are averaged: of fewer the borders show, more cost time and change little
_SAMPLES = 8  # from one cell in front of a surface to three behind it

FieldFn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # positions, directions -> sigma, rgb


def seen_colors(
    run: "Run",
    views: DepthViews,
    points: Tensor,
    normals: Tensor,
    cell: float,
    progress: Progress = lambda fraction: None,
) -> Tensor:
    """sRGB float32 `[n, 3]`: the mean of what the views that show a place best see there, by rays from their cameras,
    weighted by scale; nan where none does.

    Of a field that no native code draws, what it shows close to the place from the direction of the best view. Without
    any views, what it shows along the inward normal.

    Args:
        run: trained, on any device.
        views: see depth_views.
        points, normals: of the surface, float32 `[n, 3]` in unit space.
        cell: of the mesh, in unit space.
        progress: called with the fraction done.
    """
    norm, draw = run.views.normalization, run.renderer.drawing(Conditions())
    device, field = run.grid.bitfield.device, run.on_cpu().field

    def along_normals(packed: Tensor) -> Tensor:
        return _near(field, packed[:, :3], -packed[:, 3:], cell)

    def from_views(packed: Tensor) -> Tensor:
        x, normal = packed[:, :3], packed[:, 3:]
        scales, which = best_views(views, norm.to_world(x), normal, cell / norm.scale, _VIEWS)
        if not run.renderer.is_fused:
            scales, which = scales[:, :1], which[:, :1]
        shown = scales > 0
        origins = centers[which[shown]]
        places = x[:, None].expand(-1, scales.shape[1], -1)[shown]
        directions = torch.nn.functional.normalize(places - origins, dim=1)
        if run.renderer.is_fused:
            rgb, _, opacity = (value.cpu() for value in draw(origins.to(device), directions.to(device)))
            rgb = rgb / opacity.clamp_min(1e-6)[:, None]
        else:
            rgb = _near(field, places, directions, cell)
        seen = torch.zeros(*scales.shape, 3)
        seen[shown] = rgb
        return (seen * scales[:, :, None]).sum(dim=1) / scales.sum(dim=1, keepdim=True)  # 0 / 0 where none does

    colors = along_normals
    if views:
        centers = norm.to_unit(views.cameras.c2w[:, :, 3])
        colors = from_views
    return evaluate(colors, torch.cat([points, normals], dim=1), progress).clamp(0, 1)


def _near(field: FieldFn, points: Tensor, directions: Tensor, cell: float) -> Tensor:
    """rgb `[n, 3]` of rays through points that start one cell in front of them; what is still transparent at the end
    shows the last colour, not a background."""
    step = 4 * cell / _SAMPLES
    start = points - cell * directions
    color, trans, rgb = torch.zeros(len(points), 3), torch.ones(len(points)), torch.zeros(len(points), 3)
    for i in range(_SAMPLES):
        sigma, rgb = field(start + directions * (step * (i + 0.5)), directions)
        passed = trans * torch.exp(-sigma * step)
        color += (trans - passed)[:, None] * rgb
        trans = passed
    return color + trans[:, None] * rgb
