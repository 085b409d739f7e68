# SPDX-License-Identifier: Apache-2.0
"""Colours of a surface: what the training views see there.

A ray from a camera to a place has all that this view shows of it, such as the mist in front of a surface that training
has not made sharp. Along the normal nobody may ever have looked, and what a field shows there is noise.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from neurfield.export.depth_views import DepthViews, best_views
from neurfield.fields.conditions import Conditions
from neurfield.progress import Progress
from neurfield.sampling.evaluate import evaluate

if TYPE_CHECKING:
    from neurfield.run import Run

_VIEWS = 6  # that are averaged: of fewer the borders show, more cost time and change little
_OPAQUE = 0.1  # of the rays, in the mean: less tells no colour
_SAMPLES = 8  # from one cell in front of a surface to three behind it

FieldFn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # positions, directions -> sigma, rgb


class SurfaceColors:
    """What the views that show a place best see there: the mean by rays from their cameras, weighted by scale.

    Of a field that no native code draws, what it shows close to the place from the direction of the best view. Without
    any views, what it shows along the inward normal.

    Args:
        run: trained, on any device.
        views: see depth_views.
        cell: of the mesh, in unit space.
        off: how far off what is seen places of the mesh may lie, in unit space.
    """

    def __init__(self, run: "Run", views: DepthViews, cell: float, off: float):
        self._views, self._norm = views, run.views.normalization
        self._off, self._cell = off / self._norm.scale, cell
        self._field = run.on_cpu().field
        self._device = run.grid.bitfield.device
        self._draw = run.renderer.drawing(Conditions()) if run.renderer.is_fused else None
        self._centers = self._norm.to_unit(views.cameras.c2w[:, :, 3]) if views else None

    def __call__(self, points: NDArray, normals: NDArray, progress: Progress) -> NDArray[np.float32]:
        """sRGB 0 ... 1 `[n, 3]` of places and unit normals in unit space, `[n, 3]` each; nan where no view sees any."""
        packed = torch.from_numpy(np.concatenate([points, normals], axis=1).astype(np.float32))
        return evaluate(self._colors, packed, progress).clamp(0, 1).numpy()

    def _colors(self, packed: Tensor) -> Tensor:
        x, normals = packed[:, :3], packed[:, 3:]
        if self._centers is None:
            return _near(self._field, x, -normals, self._cell)
        n = _VIEWS if self._draw else 1
        scales, which = best_views(self._views, self._norm.to_world(x), normals, self._off, n)
        shown = scales > 0
        origins, places = self._centers[which[shown]], x[:, None].expand(-1, n, -1)[shown]
        directions = torch.nn.functional.normalize(places - origins, dim=1)
        seen = torch.zeros(*scales.shape, 4)
        if self._draw:
            rgb, _, opacity = (part.cpu() for part in self._draw(origins.to(self._device), directions.to(self._device)))
            seen[shown] = torch.cat([rgb, opacity[:, None]], dim=1)  # over black
        else:
            seen[shown] = torch.nn.functional.pad(_near(self._field, places, directions, self._cell), (0, 1), value=1.0)
        total = (seen * scales[:, :, None]).sum(dim=1)
        is_seen = total[:, 3] > _OPAQUE * scales.sum(dim=1)
        return torch.where(is_seen[:, None], total[:, :3] / total[:, 3:], torch.nan)


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
