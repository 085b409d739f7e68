# SPDX-License-Identifier: Apache-2.0
"""Sines and cosines of octave-spaced frequencies (Mildenhall et al. 2020, eq. 4), pi included."""

from dataclasses import dataclass
from typing import Annotated

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

    def forward(self, x: Tensor) -> Tensor:
        return ops.frequency(x, self.config.n_frequencies)
