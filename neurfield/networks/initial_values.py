# SPDX-License-Identifier: Apache-2.0
"""Initial values of multi-layer perceptrons, per activation. U(+-a) is uniform, d counts the input dimensions.

    tiny-cuda-nn's  Xavier U(+-sqrt(6 / (fan_in + fan_out))) per padded matrix, biases 0; for hidden Sine, with an omega
                    of 30 in the weights, U(+-30 / fan_in) first, others U(+-sqrt(6 / fan_in))
    SIREN, FINER    first matrix U(+-1 / d), others U(+-sqrt(6 / fan_in) / omega) (Sitzmann et al. 2020, 3.2), biases
                    U(+-1 / sqrt(fan_in)); FINER's first ones U(+-first_bias) if given (Liu et al. 2024, 3.3)
    Gaussian, Gabor matrices and biases U(+-1 / sqrt(fan_in)), torch's default; so do others that ask for `FanIn`
Coordinate networks (all from the third line on) start with zeros where columns pad the input.
"""

import torch
from torch import Tensor

from neurfield.ops import MLPConfig


def draw(config: MLPConfig, params: Tensor, generator: torch.Generator) -> None:
    """Fills the matrices in `params` [config.n_params], which are zero, as tiny-cuda-nn does."""
    for layer, (weights, _) in enumerate(config.matrices(params)):
        n_out, n_in = weights.shape
        bound = (6 / (n_in + n_out)) ** 0.5
        if config.activation == "Sine":
            bound = 30 / n_in if layer == 0 else (6 / n_in) ** 0.5
        weights.uniform_(-bound, bound, generator=generator)


def draw_coordinate(
    config: MLPConfig, params: Tensor, generator: torch.Generator, first_bias: float | None = None
) -> None:
    """Fills `params` [config.n_params], which are zero, for a coordinate network or one that asks for `FanIn`."""
    for layer, (weights, bias) in enumerate(config.matrices(params)):
        n_in = config.n_input_dims if layer == 0 else weights.shape[1]
        bound = default = n_in**-0.5
        if config.activation in ("Sine", "FINER"):
            bound = 1 / n_in if layer == 0 else (6 / n_in) ** 0.5 / config.omega
        weights[:, :n_in].uniform_(-bound, bound, generator=generator)
        if bias is not None:
            spread = first_bias if layer == 0 and first_bias is not None else default
            bias.uniform_(-spread, spread, generator=generator)
