# SPDX-License-Identifier: Apache-2.0
"""Fourier features of random frequencies (Tancik et al. 2020; Hertz et al. 2021), 2 pi included."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError
from neurfield.ops.fourier_features import MAX_DIMS


@dataclass(frozen=True)
class GaussianFourierConfig:
    """Keys of a `GaussianFourier` block.

    Attributes:
        sigma: in cycles per unit of the input.
        normal: what is normally distributed: "Components", every component of a frequency (Tancik et al. 2020), of
            which few are low in three dimensions, or "Radius", its magnitude, |N(0, sigma^2)| in directions that are
            spread evenly (released code of SAPE): many low ones in any number of dimensions.
        scale: of the features, which are in -scale ... scale. More lets the layer behind turn faster to them than to
            its bias; published with modulated networks: 80 / sqrt(n_frequencies), 5 for 256 (Lee et al. 2024).
    """

    n_frequencies: Annotated[int, Range(1, 65536)] = 256
    sigma: Annotated[float, Range(0, 1e6)] = 10.0
    seed: Annotated[int, Range(0, 2**63 - 1)] = 1337
    normal: Literal["Components", "Radius"] = "Components"
    scale: Annotated[float, Range(1e-6, 1e6)] = 1.0


class GaussianFourier(Encoding):
    """`2 n_frequencies` outputs in total for inputs of any range, see `neurfield.ops.fourier_features`.

    Attributes:
        frequencies: buffer `[n_frequencies, n_input_dims]`, random from `seed`, sorted by magnitude, so that blocks of
            features go from low to high frequency (what `neurfield.ops.fourier_features` calls gates).

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
        if config.normal == "Radius":
            radii = config.sigma * torch.randn(config.n_frequencies, 1, generator=generator).abs()
            drawn = radii * nn.functional.normalize(drawn, dim=1)
        self.register_buffer("frequencies", drawn[drawn.norm(dim=1).argsort(stable=True)])

    @property
    def n_gates(self) -> int:
        """Gates that forward takes at most, [n, n_gates], one per frequency."""
        return self.config.n_frequencies

    def forward(self, x: Tensor, gates: Tensor | None = None) -> Tensor:
        self.check(x)
        if self.config.scale != 1:
            gates = self.config.scale * (x.new_ones(x.shape[0], 1) if gates is None else gates)
        return ops.fourier_features(x, self.frequencies, gates)
