# SPDX-License-Identifier: Apache-2.0
"""The samples of rays through a KiloNeRF that a training step learns from, in native code (csrc/ops/kilo_visible.h)."""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, aligned, native
from neurfield.ops._operator import operator
from neurfield.ops.fused_field import FusedMarch
from neurfield.ops.kilo_grid import KiloCells, check_rays
from neurfield.ops.kilo_mlp import KiloConfig
from neurfield.ops.march import PackedSamples, empty_packed, with_room

_GUESSED_SAMPLES_PER_RAY = 8


@torch.no_grad()
def kilo_visible(
    params: Tensor,
    grid: KiloCells,
    config: KiloConfig,
    density_scale: float,
    bitfield: Tensor,
    coarse: Tensor,
    origins: Tensor,
    directions: Tensor,
    march: FusedMarch,
    capacity: int | None = None,
) -> PackedSamples:
    """Marches rays through a KiloNeRF up to where they become opaque; `sigma = density_scale * relu(z)`.

    Args:
        params: float32 `[n_networks, config.n_params]`, see ops.kilo_mlp.
        bitfield, coarse: of an occupancy grid, see neurfield.ops.occupancy.
        origins, directions: float32 `[n_rays, 3]` in unit space, unit directions, in any order.
        capacity: rows of the samples' tensors, zero behind the samples. Rays whose samples would end beyond it have
            none, as in ops.march, and nothing waits for the device. None: as many rows as there are samples.

    Returns:
        The samples of ops.march, without those whose density is 0, which have neither weight nor gradient, and without
        those behind the one that takes the transmittance below `march.stop_transmittance`. A density that is NaN is
        kept, and ends its ray. The same for any number of threads.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, a negative capacity, or a cell names a network that does
            not exist; on CUDA the first call with these cells waits for that.
    """
    check_rays("kilo_visible", params, config.n_params, grid, bitfield, coarse, origins, directions)
    if capacity is not None and capacity < 0:
        raise ValueError(f"kilo_visible: capacity must be at least 0, got {capacity}")
    shape = [config.width, config.position_frequencies, config.direction_frequencies]

    def attempt(room: int) -> PackedSamples:
        return PackedSamples(
            *_visible(
                params, grid.cells, origins, directions, bitfield, coarse, shape, grid.box, density_scale, march.values,
                list(march.jitter or ()), room, capacity is not None,
            )
        )  # fmt: skip

    if capacity is not None:
        return attempt(capacity)
    return with_room(attempt, _GUESSED_SAMPLES_PER_RAY * origins.shape[0])


@operator("kilo_visible", devices=DEVICES)
def _visible(
    params: Tensor, cells: Tensor, origins: Tensor, directions: Tensor, bitfield: Tensor, coarse: Tensor,
    shape: list[int], box: list[float], density_scale: float, march: list[float], jitter: list[int], capacity: int,
    padded: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Buffers of the full capacity, filled from the front, and counts: samples, dropped rays, samples wanted."""
    lib = native(origins)
    outputs = empty_packed(origins, origins.shape[0], capacity)
    n_bytes = lib.kilo_visible_scratch_bytes(origins.shape[0], int(march[-1]))
    arrays = (t.contiguous() for t in (origins, directions, bitfield, coarse))
    lib.kilo_visible(
        shape, aligned(params), cells.contiguous(), box, density_scale, *arrays, march, list(jitter) or None,
        *outputs, padded, origins.new_empty(n_bytes, dtype=torch.uint8),
    )  # fmt: skip
    return outputs


@_visible.register_fake
def _(params, cells, origins, directions, bitfield, coarse, shape, box, density_scale, march, jitter, capacity, padded):
    return empty_packed(origins, origins.shape[0], capacity)
