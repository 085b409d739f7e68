# SPDX-License-Identifier: Apache-2.0
"""Terms that shape the density along rays; per ray, weighted and averaged by the caller."""

from torch import Tensor

from neurfield.ops import Composite


def distortion(rays: Composite) -> Tensor:
    """Spread of the weights along each ray (Barron et al. 2022, eq. 15), in units of t: fewer floaters. `[n_rays]`"""
    return rays.distortion


def opacity_entropy(rays: Composite) -> Tensor:
    """-O ln O: pushes rays to empty or opaque. `[n_rays]`

    Opacity is held within [1e-6, 1], so that the slope, which is infinite at 0, stays below 13.
    """
    acc = rays.acc.clamp(1e-6, 1)
    return -acc * acc.log()
