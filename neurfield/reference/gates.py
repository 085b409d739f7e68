# SPDX-License-Identifier: Apache-2.0
from collections.abc import Sequence

from torch import Tensor

from neurfield.reference.modulation import modulation


def gates(x: Tensor, counts: Tensor, factors: Tensor, resolution: Sequence[int]) -> Tensor:
    """x [n, n_dims], counts [n_nodes, n_blocks], factors [n_blocks] -> [n, n_blocks]; see neurfield.ops.gates."""
    return modulation(x, counts.to(x.dtype), resolution, [False] * len(resolution)) * factors
