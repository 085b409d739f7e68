# SPDX-License-Identifier: Apache-2.0
"""Fourier features of normally distributed frequencies (Tancik et al. 2020), 2 pi included."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from neurfield import ops
from neurfield.config import Range
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError
from neurfield.ops.fourier_features import MAX_DIMS


@dataclass(frozen=True)
class GaussianFourierConfig:
    """`sigma`: standard deviation of every component of a frequency, in cycles per unit of the input."""

    n_frequencies: Annotated[int, Range(1, 65536)] = 256
    sigma: Annotated[float, Range(0, 1e6)] = 10.0
    seed: Annotated[int, Range(0, 2**63 - 1)] = 1337


class GaussianFourier(Encoding):
    """`2 n_frequencies` outputs in total for inputs of any range, see `neurfield.ops.fourier_features`.

    Attributes:
        frequencies: buffer `[n_frequencies, n_input_dims]`, `N(0, sigma^2)` from `seed`, sorted by magnitude, so that
            blocks of features go from low to high frequency (what `neurfield.ops.fourier_features` calls gates).

    Raises:
        UserError: more than 8 input dimensions.
    """

    frequencies: Tensor

    def __init__(self, n_input_dims: int, config: GaussianFourierConfig | None = None) -> None:
        config = config or GaussianFourierConfig()
        if not 1 <= n_input_dims <= MAX_DIMS:
            raise UserError(f"encoding GaussianFourier: expected 1 ... {MAX_DIMS} input dimensions, got {n_input_dims}")
        super().__init__(n_input_dims, 2 * config.n_frequencies)
        self.config = config
        generator = torch.Generator().manual_seed(config.seed)
        drawn = config.sigma * torch.randn(config.n_frequencies, n_input_dims, generator=generator)
        self.register_buffer("frequencies", drawn[drawn.norm(dim=1).argsort(stable=True)])

    @property
    def n_gates(self) -> int:
        """Gates that forward takes at most, [n, n_gates], one per frequency."""
        return self.config.n_frequencies

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        return ops.fourier_features(x, self.frequencies, gates)
