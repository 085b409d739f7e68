# SPDX-License-Identifier: Apache-2.0
"""Which way is out of what is dense, by differences over a small tetrahedron.

The derivative itself is that of the finest cells, which learn values and no slopes, and a density is nearly a step
where there is a wall, so that one cell of it outweighs all others. Hence slopes over a distance, of a logarithm.
"""

from collections.abc import Callable

import torch
from torch import Tensor

CORNERS = ((1.0, -1.0, -1.0), (-1.0, -1.0, 1.0), (-1.0, 1.0, -1.0), (1.0, 1.0, 1.0))  # of a tetrahedron around 0

_THIN = 1 / 64  # optical depth over the way to a corner, below which densities count as alike


def slopes(f: Callable[[Tensor], Tensor], x: Tensor, half: Tensor | float) -> Tensor:
    """Gradients `[n, 3]` of `f` around places `[n, 3]`, by its values at the corners of tetrahedra.

    Args:
        f: places `[4 n, 3]`, the first corner of all, then the second, ..., to values `[4 n]`.
        half: of the edges of the cubes that the corners belong to, one or `[n]`.
    """
    half = torch.as_tensor(half, device=x.device)[..., None]
    corners = torch.tensor(CORNERS, device=x.device)
    return slopes_of(f((x + half * corners[:, None]).flatten(0, 1)).view(4, -1), half)


def slopes_of(values: Tensor, half: Tensor | float) -> Tensor:
    """Gradients `[n, 3]` by values `[4, n]` at corners, see slopes; `half` one number or `[n, 1]`."""
    return values.T @ torch.tensor(CORNERS, device=values.device) / (4 * half)


def outward(density: Callable[[Tensor], Tensor], x: Tensor, reach: Tensor) -> Tensor:
    """Directions `[n, 3]` out of what is dense around places `[n, 3]`: minus the slopes of ln(1 + sigma reach / _THIN).

    They are as long as the slopes are steep, and 0 where all is equally dense, or empty.

    Args:
        density: sigma `[n]` of places `[n, 3]`.
        reach: how far from the places corners are, `[n]`.
    """
    thickness = (reach / _THIN).repeat(4)
    return -slopes(lambda places: torch.log1p(density(places) * thickness), x, reach / 3**0.5)
