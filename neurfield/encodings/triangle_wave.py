# SPDX-License-Identifier: Apache-2.0
"""Triangle waves of octave-spaced frequencies (Müller et al. 2021, section 3.5): a frequency encoding without sines.

v = 2^(k - 1) x + k / 4,   y_k = 4 |v - floor(v) - 1/2| - 1
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from neurfield.config import Range
from neurfield.encodings.encoding import Encoding


@dataclass(frozen=True)
class TriangleWaveConfig:
    n_frequencies: Annotated[int, Range(1, 64)] = 12


class TriangleWave(Encoding):
    """`n_frequencies` outputs in -1 ... 1 per input of any range, input by input. The period of the first is 2."""

    def __init__(self, n_input_dims: int, config: TriangleWaveConfig | None = None) -> None:
        config = config or TriangleWaveConfig()
        super().__init__(n_input_dims, config.n_frequencies * n_input_dims)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        k = torch.arange(self.config.n_frequencies, dtype=x.dtype, device=x.device)
        v = x.unsqueeze(2) * torch.exp2(k - 1) + k / 4
        return (4 * (v - v.floor() - 0.5).abs() - 1).flatten(1)
