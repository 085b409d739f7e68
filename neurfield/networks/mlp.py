# SPDX-License-Identifier: Apache-2.0
"""Multi-layer perceptron with one flat parameter vector, drop-in for the networks of tiny-cuda-nn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.networks import initial_values
from neurfield.networks.modulation import Modulation, ModulationConfig
from neurfield.ops import MLPConfig
from neurfield.ops.fused_mlp import ACTIVATIONS, ARGUMENTS, MAX_NEURONS
from neurfield.quantization import dequantize, fake_quantize, quantize
from neurfield.registry import lookup

_BY_LOWER_NAME = {name.lower(): name for name in ACTIVATIONS}


@dataclass(frozen=True)
class NetworkConfig:
    """Keys of a network block, with the defaults of tiny-cuda-nn; `bias` and what follows are ours.

    `Sine` with an omega (SIREN), `Gaussian`, `Gabor` (real WIRE) and `FINER` are coordinate networks: they take points
    in -1 ... 1 without an encoding, have biases and idle padding, and start as their papers say. `Sine` alone is
    tiny-cuda-nn's, with omega 1.

    Attributes:
        activation, output_activation: a name in neurfield.ops.fused_mlp.ACTIVATIONS, in any case.
        n_neurons: width of the hidden layers, a multiple of 16.
        bias: a bias per layer, stored after its matrix. By default coordinate networks have them, others do not.
        omega: of the hidden activations, default 30 for Sine and FINER, 20 for Gabor. first_omega: of the first one,
            default omega.
        scale: s of Gaussian (default 30) and Gabor (default 10).
        first_bias: FINER only: first biases are uniform in +-first_bias, which chooses the band of frequencies.
        modulation: grids that scale and shift the hidden features; forward takes their coordinates then.
        init: how matrices start: "Xavier", as in tiny-cuda-nn, with biases of zero, or "FanIn", matrices and biases
            uniform in +-1/sqrt(fan_in), torch's default, which fits photos better (docs/methods/cam.md). Default:
            Xavier; coordinate networks start as their papers say, `Sine` alone as in tiny-cuda-nn, and take no other.
        weight_bits: train with matrices and modulation grids rounded to so many bits, gradients as if they were not.
    """

    activation: str = "ReLU"
    output_activation: str = "None"
    n_neurons: Annotated[int, Range(16, MAX_NEURONS)] = 128
    n_hidden_layers: Annotated[int, Range(0, 64)] = 5
    bias: bool | None = None
    omega: Annotated[float | None, Range(1e-3, 1e5)] = None
    first_omega: Annotated[float | None, Range(1e-3, 1e5)] = None
    scale: Annotated[float | None, Range(1e-3, 1e5)] = None
    first_bias: Annotated[float | None, Range(0, 1e5)] = None
    modulation: ModulationConfig | None = None
    init: Literal["Xavier", "FanIn"] | None = None
    weight_bits: Annotated[int | None, Range(2, 8)] = None


OMEGA = {"Sine": 30.0, "Gabor": 20.0, "FINER": 30.0}
SCALE = {"Gaussian": 30.0, "Gabor": 10.0}


def _arguments(activation: str, keys: NetworkConfig) -> dict[str, float]:
    """first_omega, omega and scale of a coordinate network, nothing for an activation of tiny-cuda-nn.

    Raises:
        UserError: keys that the activation does not take.
    """
    taken = ARGUMENTS.get(activation, ())
    for key in ("omega", "first_omega", "scale"):
        if getattr(keys, key) is not None and key not in taken:
            users = [name for name, keys_of in ARGUMENTS.items() if key in keys_of]
            raise UserError(f"network: {key} belongs to the activations {', '.join(users)}, got {activation}")
    if keys.first_bias is not None and (activation != "FINER" or keys.bias is False):
        raise UserError(f"network: first_bias belongs to FINER with biases, got {activation} with bias={keys.bias}")
    if not taken:
        return {}
    if keys.init is not None:
        raise UserError(f"network: init {keys.init} does not fit {activation}, which starts as published; leave it out")
    if activation == "Sine" and keys.omega is None and keys.first_omega is None:
        return {}
    omega = OMEGA.get(activation, 1.0) if keys.omega is None else keys.omega
    scale = SCALE.get(activation, 1.0) if keys.scale is None else keys.scale
    return {"first_omega": omega if keys.first_omega is None else keys.first_omega, "omega": omega, "scale": scale}


class MLP(nn.Module):
    """`[n, n_input_dims]` to `[n, n_output_dims]`; see `neurfield.ops.fused_mlp` for the function and its layout.

    Args:
        n_input_dims, n_output_dims: at least 1.
        config: keys of the network block.
        seed: of the initial values; the same seed gives the same values everywhere.
        input_padding: the constant in the input columns that pad n_input_dims to a multiple of 16: 1 as tiny-cuda-nn
            puts after every encoding but grids (it acts as a bias), 0 after grids. Coordinate networks have 0.

    Attributes:
        params: flat float32 `[config.n_params]`; their initial values are those of neurfield.networks.initial_values.
        config: the MLPConfig that the operator takes.
        half_products: see ops.fused_mlp; False at first.
        modulation: the Modulation, or None.

    Raises:
        UserError: unknown activation, unfit dimensions, a key that the activation does not take.
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
        arguments = _arguments(hidden, keys)
        self.modulation: Modulation | None = None
        if keys.modulation is not None:
            self.modulation = Modulation(keys.modulation, keys.n_hidden_layers, seed, keys.weight_bits)
        self.weight_bits = keys.weight_bits
        self.is_coordinate_network, self.first_bias = bool(arguments), keys.first_bias
        self._starts_by_fan_in = self.is_coordinate_network or keys.init == "FanIn"
        try:
            self.config = MLPConfig(
                n_input_dims,
                n_output_dims,
                keys.n_neurons,
                keys.n_hidden_layers,
                hidden,
                output,
                bool(arguments) if keys.bias is None else keys.bias,
                0.0 if arguments else input_padding,
                normalizes=self.modulation is not None and self.modulation.normalizes,
                **arguments,
            )
        except ValueError as error:
            raise UserError(str(error).replace("fused_mlp", "network")) from None
        self.half_products = False
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
        values = torch.zeros(self.config.n_params)
        if self._starts_by_fan_in:
            initial_values.draw_coordinate(self.config, values, generator, self.first_bias)
        else:
            initial_values.draw(self.config, values, generator)
        self.params.copy_(values)

    def forward(self, x: Tensor, coordinates: Tensor | None = None) -> Tensor:
        """`coordinates` [n, modulation.n_coordinates] belong to a modulated network, and to no other."""
        if (coordinates is None) != (self.modulation is None):
            expected = "no coordinates" if self.modulation is None else "the coordinates of its modulation"
            raise ValueError(f"network: expected {expected}, got {'none' if coordinates is None else 'some'}")
        params = self.params if self.weight_bits is None else self._rounded(self.weight_bits)
        modulation = None if self.modulation is None else self.modulation(coordinates)
        return ops.fused_mlp(x, params, self.config, modulation, self.half_products)

    def _rounded(self, bits: int) -> Tensor:
        """The parameters with every matrix rounded to `bits`."""
        parts = []
        for weights, bias in self.config.matrices(self.params):
            parts.append(fake_quantize(weights, bits).flatten())
            if bias is not None:
                parts.append(bias)
        return torch.cat(parts)

    def packed(self, bits: int) -> dict[str, Tensor]:
        """Matrices in few bits, one step each, and biases in float16; see neurfield.quantization.pack."""
        layers = self.config.matrices(self.params.detach())
        codes, steps = zip(*(quantize(weights, bits) for weights, _ in layers), strict=True)
        biases = [bias for _, bias in layers if bias is not None]
        return {
            "params.codes": torch.cat([c.flatten() for c in codes]),
            "params.step": torch.stack(steps),
            "params.biases": torch.cat(biases).half() if biases else torch.empty(0, dtype=torch.float16),
        }

    def packed_names(self) -> tuple[str, ...]:
        return "params.codes", "params.step", "params.biases"

    @torch.no_grad()
    def load_packed(self, packed: Mapping[str, Tensor]) -> None:
        codes, steps, biases = (packed[name] for name in self.packed_names())
        layers = self.config.matrices(self.params)
        parts = zip(layers, codes.split([weights.numel() for weights, _ in layers]), steps, strict=True)
        start = 0
        for (weights, bias), part, step in parts:
            weights.copy_(dequantize(part, step).view_as(weights))
            if bias is not None:
                bias.copy_(biases[start : start + bias.numel()])
                start += bias.numel()

    def extra_repr(self) -> str:
        c = self.config
        hidden = f"{c.n_hidden_layers} x {c.n_neurons} {c.activation}"
        if c.activation in ARGUMENTS:
            hidden += f"({', '.join(f'{key}={getattr(c, key):g}' for key in ARGUMENTS[c.activation])})"
        return (
            f"{c.n_input_dims} -> {hidden} -> {c.n_output_dims} {c.output_activation}, bias={c.bias}, seed={self.seed}"
        )
