# SPDX-License-Identifier: Apache-2.0
import itertools

import torch
from torch import Tensor
from torch.nn import functional

# of z, omega and scale
ACTIVATIONS = {
    "None": lambda z, w, s: z,
    "ReLU": lambda z, w, s: torch.relu(z),
    "LeakyReLU": lambda z, w, s: functional.leaky_relu(z, 0.01),
    "SiLU": lambda z, w, s: functional.silu(z),
    "Exponential": lambda z, w, s: torch.exp(z),
    "Sine": lambda z, w, s: torch.sin(w * z),
    "Sigmoid": lambda z, w, s: torch.sigmoid(z),
    "Squareplus": lambda z, w, s: 0.5 * (10 * z + torch.sqrt(100 * z * z + 4)) / 10,
    "Softplus": lambda z, w, s: torch.logaddexp(10 * z, torch.zeros_like(z)) / 10,
    "Tanh": lambda z, w, s: torch.tanh(z),
    "Gaussian": lambda z, w, s: torch.exp(-(s * z).square()),
    "Gabor": lambda z, w, s: torch.exp(-(s * z).square()) * torch.cos(w * z),
    "FINER": lambda z, w, s: torch.sin(w * (1 + z.detach().abs()) * z),
}


def fused_mlp(x: Tensor, params: Tensor, config, modulation: Tensor | None = None) -> Tensor:
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
        if layer == config.n_hidden_layers:
            h = ACTIVATIONS[config.output_activation](h, 1.0, 1.0)
        else:
            if config.normalizes:
                centred = h - h.mean(dim=1, keepdim=True)
                h = centred / (centred.square().mean(dim=1, keepdim=True) + 1e-5).sqrt()
            if modulation is not None:
                gamma, beta = modulation.unflatten(1, (-1, 2))[:, layer if modulation.shape[1] > 2 else 0].unbind(1)
                h = gamma[:, None] * h + beta[:, None]
            h = ACTIVATIONS[config.activation](h, config.omega if layer else config.first_omega, config.scale)
    assert start == params.shape[0]
    return h[:, : config.n_output_dims]
