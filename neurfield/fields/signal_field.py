# SPDX-License-Identifier: Apache-2.0
"""A field of a signal: values at positions in the unit cube, `y = network(encoding(x))`."""

import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from neurfield import encodings, networks
from neurfield.config import Block, Range
from neurfield.encodings import Grid
from neurfield.errors import UserError
from neurfield.fields.radiance_field import with_per_level_scale


@dataclass(frozen=True)
class SignalFieldConfig:
    """Parts of a signal's field; blocks use the names and defaults of tiny-cuda-nn.

    `finest` is the finest resolution of a grid encoding as a fraction of the signal's longest axis; for signals that
    are no grids `max_resolution` takes its place. Both count only where the encoding gives no `per_level_scale`.
    `table_precision` fp16 reads grid encodings from a rounded copy. `network_precision` fp16 rounds what networks
    multiply on CUDA, see ops.fused_mlp; on the CPU it means nothing.
    """

    encoding: Block = field(default_factory=lambda: Block(otype="HashGrid"))
    finest: Annotated[float, Range(1e-3, 16)] = 0.5
    max_resolution: Annotated[int, Range(2)] = 2048
    network: Block = field(
        default_factory=lambda: Block(otype="FullyFusedMLP", activation="ReLU", n_neurons=64, n_hidden_layers=2)
    )
    table_precision: Literal["fp16", "fp32"] = "fp16"
    network_precision: Literal["fp16", "fp32"] = "fp32"


class SignalField(nn.Module):
    """Maps positions `[n, n_dims]` in 0 ... 1 to values `[n, n_channels]`.

    Positions may lie on any device: they are taken to the parameters, and the values are brought back.

    Args:
        n_dims, n_channels: of the signal.
        encoding, network: tiny-cuda-nn style blocks.
        seed: of the network's initial values; those of the encoding come from torch's generator.
        table_precision: "fp16" lets a grid encoding be read from a rounded copy.
        network_precision: "fp16" lets products on CUDA be of rounded factors.

    Attributes:
        skipping_parameters: see Adam.
        constant: coordinates along which it is the same everywhere, as it is in their middle.

    Raises:
        UserError: a block that its registry does not know.
    """

    encoding: Any
    network: Any

    def __init__(
        self,
        n_dims: int,
        n_channels: int,
        encoding: dict[str, Any],
        network: dict[str, Any],
        seed: int = 1337,
        table_precision: str = "fp32",
        network_precision: str = "fp32",
    ):
        super().__init__()
        self.constant: tuple[int, ...] = ()
        self.n_dims, self.n_channels = n_dims, n_channels
        self.encoding = encodings.create(n_dims, encoding)
        padding = self.encoding.padding
        self.network = networks.create(self.encoding.n_output_dims, n_channels, network, seed, padding)
        modulation = self.network.modulation
        if modulation is not None and (modulation.config.coordinates, modulation.n_coordinates) != ("Position", n_dims):
            raise UserError(
                f"network: modulation: expected Position in {n_dims} dimensions, "
                f"got {modulation.config.coordinates} in {modulation.n_coordinates}"
            )
        self.network.half_products = network_precision == "fp16"
        is_grid = isinstance(self.encoding, Grid)
        self.skipping_parameters = ("encoding.params",) if is_grid else ()
        if is_grid:
            self.encoding.reads_half = table_precision == "fp16"

    @staticmethod
    def from_config(
        config: SignalFieldConfig, n_dims: int, n_channels: int, resolution: float, seed: int
    ) -> "SignalField":
        """The field that `config` describes, with initial parameters from `seed`.

        Args:
            resolution: of the finest level of a grid encoding.
        """
        lowest = config.encoding.get("base_resolution", 16)
        finest = max(resolution, lowest) if isinstance(lowest, int | float) else resolution
        encoding = with_per_level_scale(config.encoding, finest)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return SignalField(
                n_dims, n_channels, encoding, config.network, seed, config.table_precision, config.network_precision
            )

    @property
    def device(self) -> torch.device:
        """Where the parameters lie."""
        return next(self.parameters()).device

    def forward(self, x: Tensor) -> Tensor:
        """Values `[n, n_channels]` of positions `[n, n_dims]`, on their device; differentiable in x and parameters."""
        there = x.to(self.device)
        if self.constant:
            there = there.clone()
            for axis in self.constant:
                there[:, axis] = 0.5
        return self.decode(self.encoding(there), there).to(x.device)

    def decode(self, features: Tensor, x: Tensor) -> Tensor:
        """Values of encoded positions; a modulated network takes the positions, too."""
        return self.network(features) if self.network.modulation is None else self.network(features, x)

    @property
    def n_params(self) -> int:
        return sum(param.numel() for param in self.parameters())


def grid_field(config: SignalFieldConfig, sizes: tuple[int, ...], n_channels: int, seed: int) -> SignalField:
    """The field for a grid with `sizes` samples per axis; one sample says nothing of the rest of its axis."""
    field = SignalField.from_config(config, len(sizes), n_channels, math.ceil(config.finest * max(sizes)), seed)
    field.constant = tuple(axis for axis, size in enumerate(reversed(sizes)) if size == 1)
    return field


def grid_positions(index: Tensor, sizes: tuple[int, ...]) -> Tensor:
    """Centres float32 `[n, n_axes]` in 0 ... 1 of samples by their int64 index `[n]`; the last axis comes first."""
    columns = []
    for size in reversed(sizes):
        columns.append(((index % size).float() + 0.5) / size)
        index = index // size
    return torch.stack(columns, dim=1)
