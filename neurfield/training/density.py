# SPDX-License-Identifier: Apache-2.0
"""The density of a field for what does not learn from it: the occupancy grid, the choice of samples, distillation."""

from collections.abc import Callable

import torch
from torch import Tensor

from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import Conditioned, RadianceModule, density_of
from neurfield.sampling.occupancy_grid import DensityFn
from neurfield.training.step_random import step_generator


def make_density(field: RadianceModule) -> DensityFn:
    """sigma `[n]` of positions `[n, 3]` in unit space, the fastest way, not differentiable; of all looks the same.

    Of a field that needs a time it is the density at time 0.
    """
    return density_of(field.at(Conditions()))


def density_along(field: RadianceModule) -> Callable[[Conditions], Callable[[Tensor, Tensor], Tensor]]:
    """From the conditions of rays to the density of positions `[n, 3]` on them, with the ray of each int64 `[n]`."""
    if "times" in field.needs:
        return lambda given: lambda x, rays: Conditioned(field, given.of_rays(rays)).density(x)[0]
    density = make_density(field)
    return lambda given: lambda x, rays: density(x)


def density_over_time(field: RadianceModule, seed: int, step: int) -> DensityFn:
    """As make_density, but for a field that needs a time each position is looked at at a random one.

    With the maximum that an occupancy grid keeps, its cells are those that are filled at any time. The calls of one
    (seed, step) give the same numbers in the same order.
    """
    if "times" not in field.needs:
        return make_density(field)
    random = step_generator(seed, step)

    def density(x: Tensor) -> Tensor:
        times = torch.rand(x.shape[0], generator=random).to(x.device)
        return field.at(Conditions(times)).density(x)[0]

    return density
