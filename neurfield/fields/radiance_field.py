# SPDX-License-Identifier: Apache-2.0
"""The radiance field of instant-ngp (Mueller et al. 2022, section 5.4): density and view-dependent colour.

    h     = density_network(encoding(x))          [n, n_geo_features]
    sigma = exp(h_0)                               gradient clamped, see ops.trunc_exp
    rgb   = color_network(h || direction_encoding(d))

All features, the log-density among them, feed the colour network. Positions are mapped by the field's whole box to the
unit cube.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from neurfield import encodings, networks, ops
from neurfield.config import Block, Range
from neurfield.errors import UserError
from neurfield.fields.radiance_module import RadianceModule, RenderFn

_GRID = {"n_levels": 16, "n_features_per_level": 2, "log2_hashmap_size": 19, "base_resolution": 16}
_MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 64}


@dataclass(frozen=True)
class FieldConfig:
    """Parts of a radiance field; blocks use the names and defaults of tiny-cuda-nn.

    `max_resolution` is the finest level's resolution per unit of unit space. Together with the side of the box it
    decides `per_level_scale`, unless the encoding block gives that itself. `table_precision` is that of the copy which
    grid encodings are read from, `network_precision` that of the products in their networks where the
    machine has such products; masters and sums are float32.
    """

    encoding: Block = field(default_factory=lambda: Block(otype="HashGrid", **_GRID))
    max_resolution: Annotated[int, Range(2)] = 2048
    direction_encoding: Block = field(default_factory=lambda: Block(otype="SphericalHarmonics", degree=4))
    density_network: Block = field(default_factory=lambda: Block(**_MLP, output_activation="None", n_hidden_layers=1))
    color_network: Block = field(default_factory=lambda: Block(_MLP, output_activation="Sigmoid", n_hidden_layers=2))
    n_geo_features: Annotated[int, Range(1, 64)] = 16
    table_precision: Literal["fp16", "fp32"] = "fp16"
    network_precision: Literal["bf16", "fp32"] = "bf16"
    otype: Literal["grid"] = "grid"

    def build(self, aabb: Sequence[float]) -> "RadianceField":
        """See RadianceField.from_config."""
        return RadianceField.from_config(self, aabb)


class RadianceField(RadianceModule):
    """Density and colour in a box of unit space.

    Args:
        aabb: `(min x, y, z, max x, y, z)` of the box.
        encoding, density_network, direction_encoding, color_network: tiny-cuda-nn style blocks.
        n_geo_features: outputs of the density network.
        table_precision: "fp16" lets grid encodings be read from a rounded copy.
        network_precision: "bf16" lets them round what the networks multiply, see ops.FusedField. On CUDA all networks
            do, to float16.

    Raises:
        UserError: a block that its registry does not know; the message names the block's place in its file.
    """

    sparse_parameters: ClassVar[tuple[str, ...]] = ("encoding.",)
    low: Tensor
    inverse_size: Tensor
    encoding: Any  # modules of the registries: callables with n_output_dims
    direction_encoding: Any
    density_network: Any
    color_network: Any

    def __init__(
        self,
        aabb: Sequence[float],
        encoding: dict[str, Any],
        density_network: dict[str, Any],
        direction_encoding: dict[str, Any],
        color_network: dict[str, Any],
        n_geo_features: int = 16,
        table_precision: str = "fp32",
        network_precision: str = "fp32",
    ):
        super().__init__()
        low, high = torch.tensor(aabb[:3]), torch.tensor(aabb[3:])
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("inverse_size", 1 / (high - low), persistent=False)
        self.encoding = _create(encodings, encoding, 3)
        self.direction_encoding = _create(encodings, direction_encoding, 3)
        self.density_network = _create(networks, density_network, self.encoding.n_output_dims, n_geo_features)
        n_color_inputs = n_geo_features + self.direction_encoding.n_output_dims
        self.color_network = _create(networks, color_network, n_color_inputs, 3)
        _check(self, encoding)
        self.table_precision, self.network_precision = table_precision, network_precision
        for part in self.encoding.modules():
            if isinstance(part, encodings.Grid):
                part.reads_half = table_precision == "fp16"
        self.density_network.half_products = self.color_network.half_products = network_precision == "bf16"
        _check_modulation("density_network", density_network, self.density_network, ("Position",))
        _check_modulation("color_network", color_network, self.color_network, ("Position", "Direction"))

    @staticmethod
    def from_config(config: FieldConfig, aabb: Sequence[float]) -> "RadianceField":
        """The field that `config` describes, for a box `aabb`, with random initial parameters (torch's generator)."""
        side = aabb[3] - aabb[0]
        return RadianceField(
            aabb,
            with_per_level_scale(config.encoding, config.max_resolution * side),
            config.density_network,
            config.direction_encoding,
            config.color_network,
            config.n_geo_features,
            config.table_precision,
            config.network_precision,
        )

    def fused(self) -> ops.FusedField | None:
        """What the fused operators take for this field, or None where they do not support it."""
        half, brief = self.table_precision == "fp16", self.network_precision == "bf16"
        if not ops.fused_supported(self) or (self.encoding.params.is_cuda and not (half and brief)):
            return None  # fused on CUDA is never float32
        return ops.FusedField.of(self, half, brief)

    def fused_render(self) -> RenderFn | None:
        """See RadianceModule."""
        fused = self.fused()
        return None if fused is None else partial(ops.fused_render, fused)

    def why_not_cuda(self) -> str | None:
        """See RadianceModule."""
        return None

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Density and features of positions.

        Args:
            x: float32 `[n, 3]` in unit space; differentiable. Outside of the box the encoding's own rule applies.

        Returns:
            sigma `[n]` per unit of unit space, features `[n, n_geo_features]`.
        """
        position = (x - self.low) * self.inverse_size
        features = _evaluate(self.density_network, self.encoding(position), position, None)
        return ops.trunc_exp(features[:, 0]), features

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        sigma, features = self.density(x)
        encoded = self.direction_encoding((directions + 1) / 2)  # tiny-cuda-nn takes 0 ... 1
        position = (x - self.low) * self.inverse_size
        return sigma, _evaluate(self.color_network, torch.cat([features, encoded], dim=1), position, directions)


def _evaluate(network: Any, features: Tensor, position: Tensor, directions: Tensor | None) -> Tensor:
    """A network with what its modulation, if it has one, reads: positions in the unit cube, or directions."""
    modulation = getattr(network, "modulation", None)
    if modulation is None:
        return network(features)
    return network(features, position if modulation.config.coordinates == "Position" else directions)


def _check_modulation(name: str, block: dict[str, Any], network: Any, kinds: Sequence[str]) -> None:
    """UserError for a modulation that a radiance field cannot feed: the density is the same from every direction."""
    modulation = getattr(network, "modulation", None)
    if modulation is None:
        return
    if modulation.config.coordinates not in kinds or modulation.n_coordinates != 3:
        raise UserError(
            f"{getattr(block, 'where', name)}: modulation: expected {' or '.join(kinds)} in 3 dimensions, "
            f"got {modulation.config.coordinates} in {modulation.n_coordinates}"
        )


def with_per_level_scale(encoding: dict[str, Any], max_resolution: float) -> dict[str, Any]:
    """The grid block with the `per_level_scale` that reaches `max_resolution` at its last level, if it gives none."""
    n_levels, lowest = encoding.get("n_levels", 16), encoding.get("base_resolution", 16)
    is_grid = "Grid" in str(encoding.get("otype"))
    if not is_grid or "per_level_scale" in encoding or not isinstance(n_levels, int) or n_levels < 2:
        return encoding
    if not isinstance(lowest, int | float) or not lowest > 0:
        return encoding  # the registry refuses it
    block = Block(encoding, per_level_scale=math.exp(math.log(max_resolution / lowest) / (n_levels - 1)))
    block.where = getattr(encoding, "where", Block.where)
    return block


def _check(field: RadianceField, encoding: dict[str, Any]) -> None:
    """Refuses what works for signals only."""
    if field.encoding.wants_losses or field.direction_encoding.wants_losses:
        raise UserError(
            f"{getattr(encoding, 'where', Block.where)}: SAPE opens by the losses of samples, which views do not have; "
            "it is for images, shapes, videos and volumes"
        )


def _create(registry: Any, block: dict[str, Any], *dims: int) -> Any:
    try:
        return registry.create(*dims, block)
    except (UserError, ValueError, TypeError) as error:
        raise UserError(f"{getattr(block, 'where', Block.where)}: {error}") from None
