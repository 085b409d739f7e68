# SPDX-License-Identifier: Apache-2.0
"""Visual hulls from the images of the cells' eight corners; for pinholes, whose image of a cell lies between them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from neurfield.reference.camera import project
from neurfield.reference.occupancy import morton_decode


def carve(
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    opaque: Sequence[Tensor],
    resolution: int,
    margin: float = 1.0,
) -> Tensor:
    """Cells `[resolution^3]` of the unit cube, Morton order, that some view shows to be empty; see neurfield.ops.carve.

    Args:
        c2w, intrinsics, distortion, models: cameras in unit space, float64, all cells in front of each.
        opaque: the silhouette of each view, `[height, width]`, non-zero where something is.
        margin: pixels by which the box around a cell's corners is widened.
    """
    center = (morton_decode(torch.arange(resolution**3)) + 0.5).double() / resolution
    signs = torch.cartesian_prod(*[torch.tensor([-0.5, 0.5], dtype=torch.float64)] * 3)
    corners = (center[:, None] + signs / resolution).reshape(-1, 3)
    closed = torch.zeros(resolution**3, dtype=torch.bool)
    for view, silhouette in enumerate(opaque):
        height, width = silhouette.shape
        view_idx = torch.full((len(corners),), view)
        pixel_xy, _ = project(c2w, intrinsics, distortion, models, view_idx, corners)
        low, high = pixel_xy.view(-1, 8, 2).amin(dim=1), pixel_xy.view(-1, 8, 2).amax(dim=1)
        size = torch.tensor([width, height])
        is_whole = ((low >= 0) & (high <= size)).all(dim=1)
        # number of opaque pixels in a rectangle from a table of sums
        counts = torch.zeros(height + 1, width + 1, dtype=torch.int64)
        counts[1:, 1:] = (silhouette != 0).long().cumsum(0).cumsum(1)
        x0, y0 = (low - margin).floor().long().clamp_min(0).minimum(size).unbind(1)
        x1, y1 = ((high + margin).floor().long() + 1).clamp_min(0).minimum(size).unbind(1)
        n_opaque = counts[y1, x1] - counts[y0, x1] - counts[y1, x0] + counts[y0, x0]
        closed |= is_whole & (n_opaque == 0)
    return closed
