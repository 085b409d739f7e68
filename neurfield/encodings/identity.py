# SPDX-License-Identifier: Apache-2.0
"""The input itself, `y = scale x + offset`."""

from dataclasses import dataclass

from torch import Tensor

from neurfield.encodings.encoding import Encoding


@dataclass(frozen=True)
class IdentityConfig:
    scale: float = 1.0
    offset: float = 0.0


class Identity(Encoding):
    """One output per input of any range."""

    def __init__(self, n_input_dims: int, config: IdentityConfig | None = None) -> None:
        super().__init__(n_input_dims, n_input_dims)
        self.config = config or IdentityConfig()

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        return self.config.scale * x + self.config.offset
