# SPDX-License-Identifier: Apache-2.0
"""What the fused operators need to know: a radiance field as sizes and tensors, and where its samples lie."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from neurfield.ops._common import DEVICES, check_tensor, cuda_core, read_once
from neurfield.ops.fused_mlp import ACTIVATIONS, STORES_INPUT, MLPConfig, half_reason
from neurfield.ops.half_copy import half_copy, renew_half_copy
from neurfield.ops.hash_grid import INTERPOLATIONS, TYPES, GridConfig

MAX_WIDTH = 128
MAX_HIDDEN_LAYERS = 8
MAX_CUDA_LEVELS = 32


@dataclass(frozen=True)
class FusedField:
    """Sizes and parameters of a supported field; the tensors are those of the field itself, not copies.

    Attributes:
        grid, table: the encoding; float32 `[grid.n_params]`.
        half_table: float16 copy that is read in place of `table`, or None.
        bf16_products: round what the networks multiply to bfloat16 and sum in float32, where the machine can do that
            faster and the networks have ReLU layers of widths that are multiples of 32; elsewhere it means nothing. On
            CUDA the products are of float16, and the table is read in its float16 copy.
        density, density_params: the network whose outputs are ln(sigma), or h of `surface`, and further features.
        color, color_params: the network from all those outputs and the harmonics to rgb.
        surface: None: the density is e^h of the first output h. Else float32 `[5]`, beta, radius, scale, alpha and
            reach of the surface that the density is around (csrc/math/surface_density.h); read at every call. On the
            CPU only.
        sh_degree: of the spherical harmonics.
        low, inverse_size: three values each; the encoding sees `(x - low) * inverse_size`.
    """

    grid: GridConfig
    table: Tensor
    density: MLPConfig
    density_params: Tensor
    color: MLPConfig
    color_params: Tensor
    sh_degree: int
    low: tuple[float, float, float]
    inverse_size: tuple[float, float, float]
    half_table: Tensor | None = None
    bf16_products: bool = False
    surface: Tensor | None = None

    def __post_init__(self) -> None:
        n_geo = self.density.n_output_dims
        if reason := _unsupported(self.grid, self.density, self.color, self.table.device):
            raise ValueError(f"fused_radiance: {reason}")
        if self.density.n_input_dims != self.grid.n_output_dims or self.color.n_input_dims != n_geo + self.sh_degree**2:
            raise ValueError(
                f"fused_radiance: expected networks with {self.grid.n_output_dims} and {n_geo + self.sh_degree**2} "
                f"inputs, got {self.density.n_input_dims} and {self.color.n_input_dims}"
            )
        device = self.table.device
        check_tensor("fused_radiance", "table", self.table, (self.grid.n_params,), (torch.float32,))
        for name in ("density", "color"):
            config, params = getattr(self, name), getattr(self, f"{name}_params")
            check_tensor("fused_radiance", f"{name}_params", params, (config.n_params,), (torch.float32,), device)
        if self.table.is_cuda and self.half_table is None:
            raise ValueError("fused_radiance: on CUDA the table is read in its float16 copy: half_table is missing")
        if self.surface is not None:
            if self.table.is_cuda:
                raise ValueError("fused_radiance: the kernels of CUDA have no density of a surface")
            check_tensor("fused_radiance", "surface", self.surface, (5,), (torch.float32,), device)
        if self.half_table is not None:
            check_tensor(
                "fused_radiance", "half_table", self.half_table, (self.grid.n_params,), (torch.float16,), device
            )

    @staticmethod
    def of(field: nn.Module, half: bool = True, bf16_products: bool = False) -> "FusedField":
        """The parts of a RadianceField. Raises ValueError with fused_reason's words if it is not supported.

        `half`: read the table in a float16 copy, half the memory traffic. All fields made of one module share that
        copy, and it is renewed when torch has changed the table; gradients and updates always go to the table.
        `bf16_products` is the attribute.
        """
        if reason := fused_reason(field):
            raise ValueError(f"fused_radiance: {reason}")
        f: Any = field
        return FusedField(
            f.encoding.config,
            f.encoding.params,
            f.density_network.config,
            f.density_network.params,
            f.color_network.config,
            f.color_network.params,
            f.direction_encoding.config.degree,
            _three(f.low),
            _three(f.inverse_size),
            half_copy(f.encoding.params) if half else None,
            bf16_products,
            getattr(f, "surface", None),
        )

    @property
    def can_train(self) -> bool:
        """Whether fused_gradients takes it: that step exists on the CPU only."""
        return not self.table.is_cuda

    @property
    def sizes(self) -> list[int]:
        """All integers, in the order of csrc/bindings/fused_radiance.cpp."""
        return _sizes(self.grid, self.density, self.color, self.sh_degree, self.bf16_products)

    @property
    def scales(self) -> list[float]:
        """All real numbers, in the same order."""
        padding = [self.density.input_padding, self.color.input_padding]
        surface = [0.0] * 5 if self.surface is None else self.surface.tolist()
        return [self.grid.per_level_scale, *self.low, *self.inverse_size, *padding, *surface]

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor]:
        """The table to read, density and colour parameters."""
        if self.half_table is not None:
            renew_half_copy(self.table)  # another path may have changed the table since
        table = self.table if self.half_table is None else self.half_table
        return table.detach(), self.density_params.detach(), self.color_params.detach()


@read_once
def _three(values: Tensor) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z


def _sizes(grid: GridConfig, density: MLPConfig, color: MLPConfig, sh_degree: int, bf16_products: bool) -> list[int]:
    levels = [grid.n_levels, grid.n_features_per_level, grid.log2_hashmap_size, grid.base_resolution]
    kinds = [TYPES.index(grid.type), INTERPOLATIONS.index(grid.interpolation)]
    return [*levels, *kinds, *_net_sizes(density), *_net_sizes(color), sh_degree, int(bf16_products)]


def _net_sizes(config: MLPConfig) -> list[int]:
    activations = [ACTIVATIONS.index(config.activation), ACTIVATIONS.index(config.output_activation)]
    return [config.n_input_dims, config.n_output_dims, config.n_neurons, config.n_hidden_layers, *activations]


def _unsupported(grid: GridConfig, density: MLPConfig, color: MLPConfig, device: torch.device) -> str | None:
    if grid.n_input_dims != 3:
        return f"the grid has {grid.n_input_dims} dimensions, not 3"
    for name, config in (("density", density), ("colour", color)):
        if config.bias:
            return f"the {name} network has biases"
        if config.arguments != (1, 1, 1):
            return f"the {name} network has an omega or a scale"
        if config.n_neurons > MAX_WIDTH:
            return f"the {name} network is {config.n_neurons} wide, more than {MAX_WIDTH}"
        if not 1 <= config.n_hidden_layers <= MAX_HIDDEN_LAYERS:
            return f"the {name} network has {config.n_hidden_layers} hidden layers, not 1 to {MAX_HIDDEN_LAYERS}"
    if density.output_activation != "None":
        return f"the density network ends with {density.output_activation}, not None"
    if color.output_activation in STORES_INPUT:
        return f"the colour network ends with {color.output_activation}"
    if color.n_output_dims != 3:
        return f"the colour network has {color.n_output_dims} outputs, not 3"
    return _unsupported_on_cuda(grid, density, color, device) if device.type == "cuda" else None


def _unsupported_on_cuda(grid: GridConfig, density: MLPConfig, color: MLPConfig, device: torch.device) -> str | None:
    if grid.n_levels > MAX_CUDA_LEVELS:
        return f"the grid has {grid.n_levels} levels, more than {MAX_CUDA_LEVELS}"
    for name, config in (("density", density), ("colour", color)):
        if reason := half_reason(config):
            return f"tensor cores cannot take the {name} network: {reason}"
    if (core := cuda_core(device)) is not None:
        n_bytes, limit = core.fused_render_shared_bytes(_sizes(grid, density, color, 1, False)), core.max_shared_bytes()
        if n_bytes > limit:
            return f"its networks take {n_bytes} bytes of shared memory, more than {limit} of {device}"
    return None


def fused_reason(field: nn.Module) -> str | None:
    """Why the fused path cannot take a field, or None if it can.

    It takes RadianceField-like modules on the CPU or, for rendering, on CUDA: a three-dimensional grid encoding,
    networks without biases of widths of at most 128, spherical harmonics of the direction, ln(sigma), or h of a
    `surface`, as the density network's first output.
    """
    parts = {
        name: getattr(field, name, None)
        for name in ("encoding", "direction_encoding", "density_network", "color_network")
    }
    missing = [name for name, part in parts.items() if part is None]
    if missing or not hasattr(field, "low") or not hasattr(field, "inverse_size"):
        return f"{type(field).__name__} is not a RadianceField"
    devices = {p.device for p in field.parameters()}
    if len(devices) != 1 or any(p.dtype != torch.float32 for p in field.parameters()):
        return "its parameters are not float32 on one device"
    device = devices.pop()
    if device.type == "cuda" and getattr(field, "surface", None) is not None:
        return "its density is that of a surface, which CUDA's fused kernels do not have"
    if device.type not in DEVICES:
        return f"its parameters are on {device}"
    configs: dict[str, Any] = {name: getattr(part, "config", None) for name, part in parts.items()}
    if not isinstance(configs["encoding"], GridConfig):
        return f"the encoding is {type(parts['encoding']).__name__}, not a grid"
    if not hasattr(configs["direction_encoding"], "degree"):
        return f"the direction encoding is {type(parts['direction_encoding']).__name__}, not SphericalHarmonics"
    for name in ("density_network", "color_network"):
        if not isinstance(configs[name], MLPConfig):
            return f"the {name.replace('_', ' ')} is {type(parts[name]).__name__}, not a fused MLP"
        if (
            getattr(parts[name], "modulation", None) is not None
            or getattr(parts[name], "weight_bits", None) is not None
        ):
            return f"the {name.replace('_', ' ')} is modulated or has rounded weights"
    return _unsupported(configs["encoding"], configs["density_network"], configs["color_network"], device)


def fused_supported(field: nn.Module) -> bool:
    """Whether fused_render and fused_gradients take this field; fused_reason says why not."""
    return fused_reason(field) is None


@dataclass(frozen=True)
class FusedMarch:
    """Where samples lie (as ops.march) and when a ray ends (as ops.composite).

    `jitter` is the (seed, step) of ops.march, None for no jitter.
    """

    step_scale: float = 1.0
    cone_angle: float = 0.0
    near: float = 0.0
    far: float = math.inf
    stop_transmittance: float = 1e-4
    max_samples: int = 1024
    jitter: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if not (self.step_scale > 0 and 0 <= self.cone_angle <= 1 and self.near >= 0 and 1 <= self.max_samples < 2**20):
            raise ValueError(
                "fused_radiance: expected step_scale > 0, cone_angle in 0 ... 1, near >= 0, max_samples in 1 ... 2^20, "
                f"got {self.step_scale}, {self.cone_angle}, {self.near}, {self.max_samples}"
            )

    @property
    def values(self) -> list[float]:
        return [self.step_scale, self.cone_angle, self.near, self.far, self.stop_transmittance, float(self.max_samples)]
