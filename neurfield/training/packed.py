# SPDX-License-Identifier: Apache-2.0
"""A field in 8 bits as tensors of a checkpoint: what neurfield.quantization.pack gives, each tensor deflated (zlib).

Shapes are not in the file: they are those of the field that the configuration builds. A stream that is longer than its
tensor is refused, and so is a file that is too short for the field.
"""

import zlib
from collections.abc import Collection, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from neurfield import quantization
from neurfield.sampling.occupancy_grid import OccupancyGrid

PREFIX = "packed."
OCCUPANCY = "occupancy."  # of the one tensor of a grid, its bits
_LARGEST_RATIO = 1032  # of zlib's streams: 258 bytes in two bits


def pack(field: nn.Module, grid: OccupancyGrid | None = None) -> dict[str, Tensor]:
    """Tensors of a field, and of the grid that says where it is not empty, for a checkpoint."""
    tensors = {f"{PREFIX}{name}": _deflated(value) for name, value in quantization.pack(field).items()}
    return tensors if grid is None else tensors | {f"{PREFIX}{OCCUPANCY}": _deflated(grid.bitfield)}


def is_packed(tensors: Mapping[str, Tensor]) -> bool:
    return any(name.startswith(PREFIX) for name in tensors)


def check_size(tensors: Mapping[str, Tensor], n_values: int) -> None:
    """Raises ValueError where tensors, which `pack` gave, cannot hold so many values, one byte each at least."""
    n_bytes = sum(value.numel() * value.element_size() for value in tensors.values())
    if n_values > _LARGEST_RATIO * n_bytes:
        raise ValueError(f"packed field: {n_values} values, too many for the {n_bytes} bytes that are stored of them")


def unpack(
    tensors: Mapping[str, Tensor], field: nn.Module, grid: OccupancyGrid | None = None, told: Collection[str] = ()
) -> None:
    """Sets a field, and a grid, of the same configuration; `told` names the tensors of the file that are not theirs.

    Raises:
        KeyError, ValueError, UserError: the other tensors are not what `pack` gave.
    """
    others = sorted(name for name in tensors if not name.startswith(PREFIX) and name not in told)
    if others:
        raise ValueError(f"packed field: unknown tensors {others}")
    found = {name.removeprefix(PREFIX): value for name, value in tensors.items() if name.startswith(PREFIX)}
    if grid is not None:
        grid.load_bits(_inflated(found.pop(OCCUPANCY), grid.bitfield))
    like = quantization.pack(field)
    if found.keys() != like.keys():
        raise ValueError(f"packed field: expected {sorted(like)}, got {sorted(found)}")
    quantization.unpack(field, {name: _inflated(found[name], like[name]) for name in like})
    field.load_state_dict(field.state_dict())  # lets modules refresh what they derive from parameters


def _deflated(value: Tensor) -> Tensor:
    raw = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
    return torch.from_numpy(np.frombuffer(bytearray(zlib.compress(raw.data, 9)), dtype=np.uint8))


def _inflated(data: Tensor, like: Tensor) -> Tensor:
    n_bytes = like.numel() * like.element_size()
    stream = zlib.decompressobj()
    try:
        raw = stream.decompress(data.contiguous().view(torch.uint8).numpy().data, n_bytes + 1)
    except zlib.error as error:
        raise ValueError(f"packed field: {error}") from None
    if len(raw) != n_bytes or not stream.eof:
        raise ValueError(f"packed field: expected {n_bytes} bytes, got {'more' if len(raw) > n_bytes else len(raw)}")
    value = torch.empty(0, dtype=like.dtype)
    return torch.frombuffer(bytearray(raw), dtype=torch.uint8).view(value.dtype).view(like.shape) if n_bytes else like
