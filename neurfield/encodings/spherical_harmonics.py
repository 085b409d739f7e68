# SPDX-License-Identifier: Apache-2.0
"""Spherical harmonics of a direction."""

from dataclasses import dataclass
from typing import Annotated

from torch import Tensor

from neurfield import ops
from neurfield.config import Range
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError


@dataclass(frozen=True)
class SphericalHarmonicsConfig:
    degree: Annotated[int, Range(1, 8)] = 4


class SphericalHarmonics(Encoding):
    """`degree^2` outputs in total, see `neurfield.ops.spherical_harmonics`.

    The input is `(direction + 1) / 2` in [0, 1], as in tiny-cuda-nn, with unit directions.
    """

    def __init__(self, n_input_dims: int, config: SphericalHarmonicsConfig | None = None) -> None:
        config = config or SphericalHarmonicsConfig()
        if n_input_dims != 3:
            raise UserError(f"encoding SphericalHarmonics: expected 3 input dimensions, got {n_input_dims}")
        super().__init__(n_input_dims, config.degree**2)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        return ops.spherical_harmonics(2 * x - 1, self.config.degree)
