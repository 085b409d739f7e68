# SPDX-License-Identifier: Apache-2.0
import math

import torch
from torch import Tensor


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Unit directions [n, 3] -> [n, degree^2]; see neurfield.ops.spherical_harmonics.

    In spherical angles, by the textbook route: associated Legendre functions of cos theta (with the Condon-Shortley
    sign), normalised afterwards, times cosine and sine of m phi.
    """
    x, y, z = directions.unbind(-1)
    sin_theta = torch.hypot(x, y)
    phi = torch.atan2(y, x)
    columns: dict[tuple[int, int], Tensor] = {}
    for m in range(degree):
        p = {m - 1: torch.zeros_like(z), m: math.prod(range(1, 2 * m, 2)) * (-sin_theta) ** m}
        for band in range(m, degree):
            if band > m:
                p[band] = ((2 * band - 1) * z * p[band - 1] - (band + m - 1) * p[band - 2]) / (band - m)
            ratio = math.factorial(band - m) / math.factorial(band + m)
            norm = math.sqrt((2 * band + 1) / (4 * math.pi) * ratio)
            scale = norm * (math.sqrt(2) if m > 0 else 1)
            columns[band, m] = scale * p[band] * torch.cos(m * phi)
            if m > 0:
                columns[band, -m] = scale * p[band] * torch.sin(m * phi)
    return torch.stack([columns[band, m] for band in range(degree) for m in range(-band, band + 1)], dim=-1)
