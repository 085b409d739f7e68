# SPDX-License-Identifier: Apache-2.0
"""The look of a photo as a vector that the colour network reads, and a field with one look built in.

For one look, what its vector adds to the first layer is the same everywhere. The spherical harmonics have an input that
is the same everywhere, too, their degree 0 of 1 / (2 sqrt(pi)); so the look fits into the weights of that input, and
what is left is a field without appearance, which the fused renderer draws like any other.
"""

import copy
import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurfield.encodings import SphericalHarmonics
from neurfield.fields.conditions import Conditions
from neurfield.networks import MLP

_HARMONIC = 1 / (2 * math.sqrt(math.pi))  # of degree 0, whatever the direction


def look_of(appearance: Tensor, conditions: Conditions) -> Tensor:
    """Vectors `[n, n_channels]` of training views, or the mean of all, `[1, n_channels]`, where none is meant."""
    if conditions.views is None:
        return appearance.mean(0, keepdim=True)
    # not an index, whose gradient is added up by threads in any order
    return functional.embedding(conditions.views, appearance)


@torch.no_grad()
def fold(field: Any, look: Tensor) -> Any:
    """A RadianceField in one look `[1, n_channels]`, sharing everything but the colour network with `field`.

    None where the colour network is modulated, or not a fused MLP after spherical harmonics.
    """
    network, n_geo = field.color_network, field.density_network.n_output_dims
    if not isinstance(field.direction_encoding, SphericalHarmonics) or not isinstance(network, MLP):
        return None
    if network.modulation is not None or network.weight_bits is not None:
        return None
    n_kept = n_geo + field.direction_encoding.n_output_dims
    padding = look.new_full(
        (network.config.matrix_shapes[0][1] - n_kept - look.shape[1],), network.config.input_padding
    )
    folded = copy.copy(field)
    folded.__dict__["_parameters"], folded.__dict__["_modules"] = {**field._parameters}, {**field._modules}
    folded.appearance, folded.needs = None, ()
    folded.color_network = _without_inputs(network, n_kept, torch.cat([look[0], padding]), n_geo)
    return folded


def _without_inputs(network: MLP, n_kept: int, constant: Tensor, harmonic: int) -> MLP:
    """The network of its first `n_kept` inputs, the others being `constant`, which input `harmonic` stands for."""
    smaller = copy.copy(network)
    smaller.__dict__["_parameters"] = {}
    config = smaller.config = replace(network.config, n_input_dims=n_kept)
    params = network.params.new_zeros(config.n_params)
    old, new = network.config.matrices(network.params.detach()), config.matrices(params)
    for (own_weights, own_bias), (weights, bias) in zip(new, old, strict=True):
        n_shared = n_kept if own_weights is new[0][0] else weights.shape[1]
        own_weights[:, :n_shared] = weights[:, :n_shared]
        if bias is not None and own_bias is not None:
            own_bias.copy_(bias)
    new[0][0][:, harmonic] += old[0][0][:, n_kept:] @ constant / _HARMONIC
    smaller.params = nn.Parameter(params)
    return smaller
