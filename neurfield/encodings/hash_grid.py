# SPDX-License-Identifier: Apache-2.0
"""Multi-resolution grids with learned features (Müller et al. 2022): hashed, dense and tiled."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError
from neurfield.ops.hash_grid import GridConfig
from neurfield.quantization import dequantize, quantize

DENSE_FINEST = 256  # resolution that a dense grid's default per_level_scale reaches


@dataclass(frozen=True)
class GridBlock:
    """Keys of a `Grid` block. `n_features`, the total, may stand for n_levels; the default of per_level_scale is 2,
    for dense grids what reaches a resolution of 256. Features start uniform in +-`init_range`."""

    type: Literal["Hash", "Dense", "Tiled"] = "Hash"
    n_levels: int | None = None
    n_features: int | None = None
    n_features_per_level: int = 2
    log2_hashmap_size: int = 19
    base_resolution: int = 16
    per_level_scale: Annotated[float | None, Range(1)] = None
    interpolation: Literal["Linear", "Smoothstep", "Nearest"] = "Linear"
    hash: Literal["CoherentPrime"] = "CoherentPrime"
    init_range: Annotated[float, Range(0, 1)] = 1e-4
    stochastic_interpolation: bool = False
    fixed_point_pos: bool = False


@dataclass(frozen=True)
class HashGridBlock(GridBlock):
    type: Literal["Hash"] = "Hash"


@dataclass(frozen=True)
class DenseGridBlock(GridBlock):
    type: Literal["Dense"] = "Dense"


@dataclass(frozen=True)
class TiledGridBlock(GridBlock):
    type: Literal["Tiled"] = "Tiled"


class Grid(Encoding):
    """`n_levels * n_features_per_level` outputs for positions in [0, 1], see `neurfield.ops.hash_grid`.

    `params` is the flat table, uniform in +-`init_range` at first (torch's generator); `config` holds the sizes. With
    `reads_half` it is read in a float16 copy where positions are float32; gradients go to the table itself.
    """

    padding = 0.0

    def __init__(self, config: GridConfig, init_range: float = GridBlock.init_range) -> None:
        super().__init__(config.n_input_dims, config.n_output_dims)
        self.config, self.reads_half = config, False
        self.params = nn.Parameter(torch.empty(config.n_params).uniform_(-init_range, init_range))

    @property
    def n_gates(self) -> int:
        """Gates that forward takes at most, [n, n_gates], one per level."""
        return self.config.n_levels

    def forward(self, x: Tensor, max_level: float | Tensor | None = None, gates: Tensor | None = None) -> Tensor:
        half = ops.half_copy(self.params) if self.reads_half and x.dtype == torch.float32 else None
        y = ops.hash_grid(x, self.params, self.config, max_level, half)
        if gates is None:
            return y
        level = torch.arange(self.n_output_dims, device=x.device) // self.config.n_features_per_level
        return y * gates[:, level * gates.shape[1] // self.config.n_levels]

    def _level_sizes(self) -> list[int]:
        return [level.n_entries * self.config.n_features_per_level for level in self.config.levels()]

    def packed(self, bits: int) -> dict[str, Tensor]:
        """The table in few bits, one step per level; see neurfield.quantization.pack."""
        levels = self.params.detach().split(self._level_sizes())
        codes, steps = zip(*(quantize(level, bits) for level in levels), strict=True)
        return {"params.codes": torch.cat(codes), "params.step": torch.stack(steps)}

    def packed_names(self) -> tuple[str, ...]:
        return "params.codes", "params.step"

    @torch.no_grad()
    def load_packed(self, packed: Mapping[str, Tensor]) -> None:
        codes, steps = (packed[name] for name in self.packed_names())
        parts = zip(codes.split(self._level_sizes()), steps, strict=True)
        self.params.copy_(torch.cat([dequantize(level, step) for level, step in parts]))


def create_grid(n_input_dims: int, block: GridBlock) -> Grid:
    """Builds the grid of a block; UserError for sizes that do not fit."""
    for key in ("stochastic_interpolation", "fixed_point_pos"):
        if getattr(block, key):
            raise UserError(f"encoding Grid: {key} is not supported; leave it out")
    try:
        return Grid(_config(n_input_dims, block), block.init_range)
    except ValueError as error:
        raise UserError(f"encoding Grid: {str(error).removeprefix('hash_grid: ')}") from None


def _config(n_input_dims: int, block: GridBlock) -> GridConfig:
    n_levels = _n_levels(block)
    scale = block.per_level_scale
    if scale is None:
        dense = block.type == "Dense" and n_levels > 1
        scale = math.exp(math.log(DENSE_FINEST / block.base_resolution) / (n_levels - 1)) if dense else 2.0
    return GridConfig(
        n_input_dims,
        n_levels,
        block.n_features_per_level,
        block.log2_hashmap_size,
        block.base_resolution,
        scale,
        block.type,
        block.interpolation,
    )


def _n_levels(block: GridBlock) -> int:
    if block.n_features is None:
        return 16 if block.n_levels is None else block.n_levels
    if block.n_levels is not None:
        raise ValueError("n_features and n_levels say the same; leave one out")
    if block.n_features_per_level < 1 or block.n_features % block.n_features_per_level:
        per_level = block.n_features_per_level
        raise ValueError(f"n_features must be a multiple of n_features_per_level = {per_level}, got {block.n_features}")
    return block.n_features // block.n_features_per_level
