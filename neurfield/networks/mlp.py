# SPDX-License-Identifier: Apache-2.0
"""Multi-layer perceptron with one flat parameter vector, drop-in for the networks of tiny-cuda-nn."""

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.ops import MLPConfig
from neurfield.ops.fused_mlp import ACTIVATIONS
from neurfield.registry import lookup

_BY_LOWER_NAME = {name.lower(): name for name in ACTIVATIONS}


@dataclass(frozen=True)
class NetworkConfig:
    """Keys of a network block, with the defaults of tiny-cuda-nn; `bias` is ours.

    Attributes:
        activation, output_activation: a name in neurfield.ops.fused_mlp.ACTIVATIONS, in any case.
        n_neurons: width of the hidden layers, a multiple of 16.
        bias: a bias per layer, stored after its matrix; off in the layout of tiny-cuda-nn.
    """

    activation: str = "ReLU"
    output_activation: str = "None"
    n_neurons: Annotated[int, Range(16, 128)] = 128
    n_hidden_layers: Annotated[int, Range(0, 64)] = 5
    bias: bool = False


class MLP(nn.Module):
    """`[n, n_input_dims]` to `[n, n_output_dims]`; see `neurfield.ops.fused_mlp` for the function and its layout.

    Args:
        n_input_dims, n_output_dims: at least 1.
        config: keys of the network block.
        seed: of the initial values; the same seed gives the same values everywhere.
        input_padding: the constant in the input columns that pad n_input_dims to a multiple of 16: 1 as tiny-cuda-nn
            puts after every encoding but grids (it acts as a bias), 0 after grids.

    Attributes:
        params: flat float32 `[config.n_params]`. Initial values: Xavier uniform per padded matrix,
            `U(+-sqrt(6 / (fan_in + fan_out)))`; for hidden Sine layers those of SIREN (Sitzmann et al. 2020): first
            matrix `U(+-30 / fan_in)`, others `U(+-sqrt(6 / fan_in))`. Biases start at 0.
        config: the MLPConfig that the operator takes.

    Raises:
        UserError: unknown activation, unfit dimensions.
    """

    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        config: NetworkConfig | None = None,
        seed: int = 1337,
        input_padding: float = 1.0,
    ) -> None:
        super().__init__()
        keys = config or NetworkConfig()
        hidden, output = (
            lookup(_BY_LOWER_NAME, name.lower(), "activation") for name in (keys.activation, keys.output_activation)
        )
        try:
            self.config = MLPConfig(
                n_input_dims,
                n_output_dims,
                keys.n_neurons,
                keys.n_hidden_layers,
                hidden,
                output,
                keys.bias,
                input_padding,
            )
        except ValueError as error:
            raise UserError(str(error).replace("fused_mlp", "network")) from None
        self.seed = seed
        self.params = nn.Parameter(torch.empty(self.config.n_params))
        self.reset_parameters()

    @property
    def n_input_dims(self) -> int:
        return self.config.n_input_dims

    @property
    def n_output_dims(self) -> int:
        return self.config.n_output_dims

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the initial values again, from `seed`."""
        generator = torch.Generator().manual_seed(self.seed)
        values = torch.empty(self.config.n_params)
        for layer, (weights, bias) in enumerate(self.config.matrices(values)):
            n_out, n_in = weights.shape
            bound = (6 / (n_in + n_out)) ** 0.5
            if self.config.activation == "Sine":
                bound = 30 / n_in if layer == 0 else (6 / n_in) ** 0.5
            weights.uniform_(-bound, bound, generator=generator)
            if bias is not None:
                bias.zero_()
        self.params.copy_(values)

    def forward(self, x: Tensor) -> Tensor:
        return ops.fused_mlp(x, self.params, self.config)

    def extra_repr(self) -> str:
        c = self.config
        hidden = f"{c.n_hidden_layers} x {c.n_neurons} {c.activation}"
        return (
            f"{c.n_input_dims} -> {hidden} -> {c.n_output_dims} {c.output_activation}, bias={c.bias}, seed={self.seed}"
        )
