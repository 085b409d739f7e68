# SPDX-License-Identifier: Apache-2.0
"""Which cube a mesh is made of where nobody says: the unit cube, or the one of twice its side.

The unit cube is as wide as what a median camera sees of the point that all look at, by the narrow side of its picture.
Of an object that is its subject, and the room around it, however much of the pictures it takes, would only make the
cells larger. Of a facade it is the middle. What tells them apart is where the scene ends: of a facade nothing is seen
much further away.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurfield.export.density_mesh import reaches_beyond
from neurfield.export.depth_views import depth_views
from neurfield.rendering.renderer import image_rays

if TYPE_CHECKING:
    from neurfield.run import Run

ENOUGH, ALL = 0.8, 0.98  # shares of what is seen: the unit cube holds its subject; a cube holds the scene
_CELLS = 32  # of the unit cube, which pixels are as large as


def chosen_extent(run: "Run") -> tuple[int, float]:
    """2 where the unit cube holds less than ENOUGH of what training views see, and the next one ALL of it; else 1.

    Returns:
        That, and the share that the unit cube holds.
    """
    if not reaches_beyond(run.grid, 1):
        return 1, 1.0
    off_middle = _seen_off_middle(run)
    unit, double = (float((off_middle <= side / 2).float().mean()) for side in (1, 2))  # NaN where nothing is seen
    return (2 if unit < ENOUGH and double >= ALL else 1), unit


def _seen_off_middle(run: "Run") -> Tensor:
    """How far from the middle of unit space, along the axis where that is most, the pixels' rays end, `[n]`."""
    norm = run.views.normalization
    middle = norm.to_world(torch.full((3,), 0.5))
    views = depth_views(run, middle, 1 / _CELLS / norm.scale, _CELLS)
    places = []
    for i, depths in enumerate(views.depths.split(views.cameras.sizes.prod(dim=1).tolist())):
        origins, directions = image_rays(views.cameras[i], 0, int(views.cameras.sizes[i, 1]))
        ends = depths.isfinite()
        places.append((origins + depths[:, None] * directions)[ends])
    return norm.to_unit(torch.cat(places)).sub_(0.5).abs_().amax(dim=1)
