# SPDX-License-Identifier: Apache-2.0
"""One-blob encoding (Müller et al. 2019, section 4.3): a smoothed one-hot vector, how much of a blob lies in each bin.

The blob is the quartic kernel of radius `1 / n_bins` around x, its integral up to u radii from x

    cdf(u) = 15/16 u (1 - 2/3 u^2 + 1/5 u^4) + 1/2    for |u| <= 1, else 0 or 1
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from neurfield.config import Range
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError


@dataclass(frozen=True)
class OneBlobConfig:
    n_bins: Annotated[int, Range(1, 1024)] = 16


class OneBlob(Encoding):
    """`n_bins` outputs per input in [0, 1], input by input; what leaves the interval at one end comes in at the other.

    `n_bins` is a power of two, as in tiny-cuda-nn. The outputs of an input in [0, 1] are at least 0 and add up to 1.
    """

    def __init__(self, n_input_dims: int, config: OneBlobConfig | None = None) -> None:
        config = config or OneBlobConfig()
        if config.n_bins & (config.n_bins - 1):
            raise UserError(f"encoding OneBlob: n_bins: expected a power of two, got {config.n_bins}")
        super().__init__(n_input_dims, config.n_bins * n_input_dims)
        self.config = config

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        n_bins = self.config.n_bins
        radii = torch.arange(n_bins + 1, dtype=x.dtype, device=x.device) - n_bins * x.unsqueeze(2)
        # the blob and its copies one interval to the right and to the left
        below = _cdf(radii) + _cdf(radii - n_bins) + _cdf(radii + n_bins)
        return below.diff(dim=2).flatten(1)


def _cdf(u: Tensor) -> Tensor:
    u = u.clamp(-1, 1)  # where the polynomial is 0 and 1, with slope 0
    square = u * u
    return 15 / 16 * u * (1 - 2 / 3 * square + 1 / 5 * square * square) + 0.5
