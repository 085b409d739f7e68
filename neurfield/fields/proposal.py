# SPDX-License-Identifier: Apache-2.0
"""A coarse density that says where a field is worth looking at (Barron et al. 2022, mip-NeRF 360, section 3)."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from neurfield import encodings, networks, ops
from neurfield.fields.radiance_field import with_per_level_scale

_GRID = {"otype": "HashGrid", "n_levels": 5, "n_features_per_level": 2, "log2_hashmap_size": 17, "base_resolution": 16}
_MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 16}


class Proposal(nn.Module):
    """sigma = exp(network(encoding(x))), gradient clamped, with nerfacc's sizes: 5 levels, one layer of 16 neurons.

    Args:
        aabb: `(min x, y, z, max x, y, z)` of its box, a cube of unit space.
        resolution: of the finest level, per unit of unit space, above 16.
    """

    low: Tensor

    def __init__(self, aabb: Sequence[float], resolution: int) -> None:
        super().__init__()
        self.side = aabb[3] - aabb[0]
        self.register_buffer("low", torch.tensor(aabb[:3]), persistent=False)
        self.encoding: Any = encodings.create(3, with_per_level_scale(_GRID, resolution * self.side))
        self.network: Any = networks.create(self.encoding.n_output_dims, 1, {**_MLP, "n_hidden_layers": 1})

    def forward(self, x: Tensor) -> Tensor:
        """Density `[n]` at positions `[n, 3]` in the box."""
        y = self.network(self.encoding((x - self.low) / self.side))
        return cast(Tensor, ops.trunc_exp(y[:, 0]))
