# SPDX-License-Identifier: Apache-2.0
"""WIRE (Saragadam et al. 2023): complex layers with the wavelet exp(i omega u - |s u|^2); the real part comes out.

A complex layer is a real one of twice the width: it takes h = [Re h || Im h] and has the block matrix

    [[Re W, -Im W],
     [Im W,  Re W]]         for u = a + i b:  exp(-omega b - s^2 (a^2 + b^2)) [cos omega a || sin omega a]

so nothing complex is left in parameters or gradients. The first layer is real: the imaginary half of its block is 0.
The activation mixes two columns, so layers do not go through one ops.fused_mlp together: each is one without hidden
layers, whose products are twice as fast as torch's on an AMD CPU, and ops.wavelet.
"""

import itertools
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.ops import MLPConfig, fused_mlp, wavelet


@dataclass(frozen=True)
class WireConfig:
    """Keys of a `WIRE` block.

    Attributes:
        n_neurons: of a real network with about as many parameters: layers have n_neurons / sqrt(2) complex numbers.
        omega: of the hidden layers; first_omega: of the first, default omega.
        scale: s.
    """

    n_neurons: Annotated[int, Range(16, 4096)] = 256
    n_hidden_layers: Annotated[int, Range(1, 64)] = 3
    omega: Annotated[float, Range(1e-3, 1e5)] = 20.0
    first_omega: Annotated[float | None, Range(1e-3, 1e5)] = None
    scale: Annotated[float, Range(1e-3, 1e5)] = 10.0


class Wire(nn.Module):
    """`[n, n_input_dims]` to `[n, n_output_dims]`.

    Args:
        n_input_dims, n_output_dims: at least 1. Points are expected in -1 ... 1, without an encoding.
        config: keys of the block.
        seed: of the initial values: real and imaginary parts, biases too, uniform in +-1 / sqrt(inputs).
        input_padding: of no use here; the registry gives it to every network.

    Attributes:
        weights: per layer `[2, n_out, n_in]`, real and imaginary part; of the first `[1, width, n_input_dims]`.
        biases: per layer `[2, n_out]`; of the first and the last one row, since both are real.
        modulation: None.
    """

    modulation = None

    def __init__(
        self,
        n_input_dims: int,
        n_output_dims: int,
        config: WireConfig | None = None,
        seed: int = 1337,
        input_padding: float = 0.0,
    ) -> None:
        super().__init__()
        if n_input_dims < 1 or n_output_dims < 1:
            raise UserError(f"network WIRE: expected inputs and outputs, got {n_input_dims} and {n_output_dims}")
        self.config = config or WireConfig()
        self.n_input_dims, self.n_output_dims, self.seed = n_input_dims, n_output_dims, seed
        self.width = round(self.config.n_neurons / 2**0.5)
        n_layers = self.config.n_hidden_layers
        sizes = [n_input_dims, *[self.width] * n_layers, n_output_dims]
        parts = [1, *[2] * n_layers]
        rows = [1, *[2] * (n_layers - 1), 1]
        shapes = zip(parts, sizes[1:], sizes[:-1], strict=True)
        self.weights = nn.ParameterList(torch.empty(shape) for shape in shapes)
        self.biases = nn.ParameterList(torch.empty(shape) for shape in zip(rows, sizes[1:], strict=True))
        # made here, since compilers cannot trace it
        widths = [n_input_dims, *[2 * self.width] * n_layers, n_output_dims]
        self._products = [MLPConfig(*pair, n_hidden_layers=0, bias=True) for pair in itertools.pairwise(widths)]
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws the initial values again, from `seed`."""
        generator = torch.Generator().manual_seed(self.seed)
        for weights, bias in zip(self.weights, self.biases, strict=True):
            bound = weights.shape[2] ** -0.5
            weights.uniform_(-bound, bound, generator=generator)
            bias.uniform_(-bound, bound, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.shape[1] != self.n_input_dims:
            raise ValueError(f"network WIRE: expected an input [n, {self.n_input_dims}], got {list(x.shape)}")
        c = self.config
        # by number: torch 2.8 compiles neither slices nor iterators of a ParameterList
        first, *hidden, last = [(self.weights[i], self.biases[i], product) for i, product in enumerate(self._products)]
        weight, bias = (torch.cat([t[0], torch.zeros_like(t[0])]) for t in first[:2])
        u = _linear(x, weight, bias, first[2])
        h = wavelet(u, c.omega if c.first_omega is None else c.first_omega, c.scale)
        for (real, imaginary), bias, product in hidden:
            block = torch.cat([torch.cat([real, -imaginary], dim=1), torch.cat([imaginary, real], dim=1)])
            h = wavelet(_linear(h, block, bias.flatten(), product), c.omega, c.scale)
        (real, imaginary), bias, product = last
        return _linear(h, torch.cat([real, -imaginary], dim=1), bias[0], product)

    def extra_repr(self) -> str:
        c = self.config
        hidden = f"{c.n_hidden_layers} x {self.width} complex, omega={c.omega:g}, scale={c.scale:g}"
        return f"{self.n_input_dims} -> {hidden} -> {self.n_output_dims}, seed={self.seed}"


def _linear(x: Tensor, weight: Tensor, bias: Tensor, product: MLPConfig) -> Tensor:
    """`x weight^T + bias`, as functional.linear, which a GPU has its best products behind."""
    if x.is_cuda:
        return functional.linear(x, weight, bias)
    n_out, n_in = weight.shape
    ((rows, columns),) = product.matrix_shapes
    padded = functional.pad(weight, (0, columns - n_in, 0, rows - n_out))
    return fused_mlp(x, torch.cat([padded.flatten(), functional.pad(bias, (0, rows - n_out))]), product)
