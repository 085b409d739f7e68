# SPDX-License-Identifier: Apache-2.0
"""Spatially adaptive progressive encoding (Hertz et al. 2021): an encoding whose features open low to high frequency,
and only where the loss asks for them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor

from neurfield.config import Block, Range
from neurfield.encodings.encoding import Encoding
from neurfield.encodings.spatial_progress import Ramp, SpatialProgress
from neurfield.errors import UserError


@dataclass(frozen=True)
class SapeConfig:
    """Keys of a `SAPE` block.

    Attributes:
        nested: an encoding that takes gates: GaussianFourier, Frequency, or a grid, whose levels are the blocks.
        resolution: nodes of the feedback grid per axis. Released: 128 x 128 for images, 64^3 for shapes.
        epsilon: a block opens where the mean loss of a sample is above it. Released: 1e-3 for the squared error of
            images, summed over channels or not as the loss is, 1e-5 in one dimension, 1e-1 for occupancy.
        n_blocks: of the features; default: one per frequency, octave or level.
        ramp: "Hard" (released code) or "Soft": the newest block fades in during the first half of its time, older ones
            are open (the paper's growth in time).
        identity: whether the input itself comes first, always visible.
    """

    nested: Block
    resolution: tuple[int, ...]
    epsilon: Annotated[float, Range(0)] = 1e-3
    n_blocks: Annotated[int | None, Range(1)] = None
    ramp: Ramp = "Hard"
    identity: bool = True


class Sape(Encoding):
    """A gated encoding of positions in [0, 1] and its controller.

    Nothing opens unless `after_step` is called in every training step. The mask is part of the state: evaluation uses
    the one that training ended with.

    Args:
        n_input_dims: dimensions of x.
        nested: the encoding, which has `n_gates` and takes `gates`.
        config: the keys.

    Raises:
        UserError: an encoding without gates, sizes that do not fit.
    """

    def __init__(self, n_input_dims: int, nested: Encoding, config: SapeConfig) -> None:
        n_gates = getattr(nested, "n_gates", None)
        if n_gates is None:
            raise UserError(
                f"encoding SAPE: {type(nested).__name__} has no gates; use GaussianFourier, Frequency or a grid"
            )
        if len(config.resolution) != n_input_dims:
            raise UserError(
                f"encoding SAPE: resolution: expected {n_input_dims} numbers, got {list(config.resolution)}"
            )
        n_blocks = n_gates if config.n_blocks is None else config.n_blocks
        if n_blocks > n_gates:
            raise UserError(f"encoding SAPE: n_blocks: expected at most {n_gates}, got {n_blocks}")
        super().__init__(n_input_dims, nested.n_output_dims + n_input_dims * config.identity)
        self.config = config
        self.nested = nested
        self.progress = SpatialProgress(n_blocks, config.resolution, config.epsilon, config.ramp)

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        features = self.nested(x, gates=self.progress.gates(x))
        return torch.cat([x, features], dim=1) if self.config.identity else features

    @property
    def wants_losses(self) -> bool:
        return True

    def after_step(self, x: Tensor, losses: Tensor, progress: float) -> None:
        self.progress.after_step(x, losses, progress)


def create_sape(n_input_dims: int, config: SapeConfig, create: Callable[[int, Mapping[str, Any]], Encoding]) -> Sape:
    """Builds the nested block with `create(n_input_dims, block)`."""
    return Sape(n_input_dims, create(n_input_dims, config.nested), config)
