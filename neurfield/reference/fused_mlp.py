# SPDX-License-Identifier: Apache-2.0
import itertools

import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS = {
    "None": lambda z: z,
    "ReLU": torch.relu,
    "LeakyReLU": lambda z: functional.leaky_relu(z, 0.01),
    "SiLU": functional.silu,
    "Exponential": torch.exp,
    "Sine": torch.sin,
    "Sigmoid": torch.sigmoid,
    "Squareplus": lambda z: 0.5 * (10 * z + torch.sqrt(100 * z * z + 4)) / 10,
    "Softplus": lambda z: torch.logaddexp(10 * z, torch.zeros_like(z)) / 10,
    "Tanh": torch.tanh,
}


def fused_mlp(x: Tensor, params: Tensor, config) -> Tensor:
    """x [n, n_input_dims] -> [n, n_output_dims]; see neurfield.ops.fused_mlp. Splits `params` as documented there."""

    def padded(n: int) -> int:
        return (n + 15) // 16 * 16

    widths = [padded(config.n_input_dims), *[config.n_neurons] * config.n_hidden_layers, padded(config.n_output_dims)]
    padding = x.new_full((x.shape[0], widths[0] - config.n_input_dims), config.input_padding)
    h, start = torch.cat([x, padding], dim=1), 0
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
        weights = params[start : start + n_out * n_in].view(n_out, n_in)
        start += n_out * n_in
        h = h @ weights.T
        if config.bias:
            h = h + params[start : start + n_out]
            start += n_out
        h = ACTIVATIONS[config.activation if layer < config.n_hidden_layers else config.output_activation](h)
    assert start == params.shape[0]
    return h[:, : config.n_output_dims]
