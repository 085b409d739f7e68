# SPDX-License-Identifier: Apache-2.0
"""Sines and cosines of octave-spaced frequencies (Mildenhall et al. 2020, eq. 4), pi included."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from neurfield import ops
from neurfield.config import Range
from neurfield.encodings.encoding import Encoding


@dataclass(frozen=True)
class FrequencyConfig:
    n_frequencies: Annotated[int, Range(1, 64)] = 12


class Frequency(Encoding):
    """`2 n_frequencies` outputs per input of any range, see `neurfield.ops.frequency`. The period is 2."""

    def __init__(self, n_input_dims: int, config: FrequencyConfig | None = None) -> None:
        config = config or FrequencyConfig()
        super().__init__(n_input_dims, 2 * config.n_frequencies * n_input_dims)
        self.config = config

    @property
    def n_gates(self) -> int:
        """Gates that forward takes at most, [n, n_gates], one per octave."""
        return self.config.n_frequencies

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        self.check(x)
        if gates is None:
            return ops.frequency(x, self.config.n_frequencies)
        n_octaves, n_dims = self.config.n_frequencies, self.n_input_dims
        # octave by octave, as gates are, then in the order of ops.frequency; 2^k pi x is 2^(k - 1) turns of x
        octaves = 2.0 ** (torch.arange(n_octaves, dtype=x.dtype, device=x.device) - 1)
        frequencies = torch.kron(octaves[:, None], torch.eye(n_dims, dtype=x.dtype, device=x.device))
        gate = torch.arange(n_octaves, device=x.device) * gates.shape[1] // n_octaves
        y = ops.fourier_features(x, frequencies, gates[:, gate])
        return y.view(-1, n_octaves, n_dims, 2).transpose(1, 2).flatten(1)
