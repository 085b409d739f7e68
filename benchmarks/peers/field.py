# SPDX-License-Identifier: Apache-2.0
"""The field and the batch of samples that the implementations of benchmarks.peers are compared on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

# matrices [out, in] of the density and the colour network
SHAPES = {"d0": (64, 32), "d1": (16, 64), "c0": (64, 32), "c1": (64, 64), "c2": (3, 64)}
# small, so that the samples stay thin and as many throughout; no implementation is faster or slower for it
LEARNING_RATE, BETAS, EPSILON = 1e-3, (0.9, 0.99), 1e-15


class Unavailable(Exception):
    """An implementation that this machine lacks; the message says what is missing."""


@dataclass(frozen=True)
class Problem:
    """Rays with equally many samples each, in the order of the rays, and the parameters before training.

    Colours are composited over black; the loss is their mean squared error.
    """

    origins: np.ndarray  # [n_rays, 3] in the unit cube's frame
    directions: np.ndarray  # [n_rays, 3]
    near: float  # distance of the first sample of every ray
    spacing: float  # from sample to sample
    positions: np.ndarray  # [n_rays * per_ray, 3]
    target: np.ndarray  # [n_rays, 3]
    levels: list[tuple[float, int, int]]  # scale, vertices per axis, entries of each level of the hash grid
    table: np.ndarray  # [entries of all levels, 2]
    weights: dict[str, np.ndarray]  # matrices of SHAPES

    @property
    def n_rays(self) -> int:
        return len(self.origins)

    @property
    def per_ray(self) -> int:
        return len(self.positions) // self.n_rays

    @property
    def sample_directions(self) -> np.ndarray:
        return np.repeat(self.directions, self.per_ray, axis=0)


class Steps(NamedTuple):
    """`infer` and `train` return when all work is done; either may be None. `image` is not timed."""

    infer: Callable[[], object] | None  # all samples to colours
    train: Callable[[], object] | None  # a whole step, Adam included
    image: Callable[[], np.ndarray]  # [n_rays, 3] with the present parameters
