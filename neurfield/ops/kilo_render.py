# SPDX-License-Identifier: Apache-2.0
"""Rays through a KiloNeRF in native code (csrc/ops/kilo_render.h)."""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, aligned, empty, native
from neurfield.ops._operator import operator
from neurfield.ops.fused_field import FusedMarch
from neurfield.ops.fused_radiance import FusedImage, empty_image
from neurfield.ops.kilo_grid import KiloCells, check_rays
from neurfield.ops.kilo_mlp import KiloConfig


@torch.no_grad()
def kilo_render(
    params: Tensor,
    grid: KiloCells,
    config: KiloConfig,
    density_scale: float,
    bitfield: Tensor,
    coarse: Tensor,
    origins: Tensor,
    directions: Tensor,
    march: FusedMarch,
    skip_weight: float = 3e-4,
) -> FusedImage:
    """Marches, evaluates and composites rays through a KiloNeRF; `sigma = density_scale * relu(z)`.

    Args:
        params: float32 `[n_networks, config.n_params]`, see ops.kilo_mlp.
        bitfield, coarse: of an occupancy grid, see neurfield.ops.occupancy.
        origins, directions: float32 `[n_rays, 3]` in unit space, unit directions, in image order: some thousand
            neighbours share networks.
        skip_weight: the colour of samples of no more weight need not be evaluated and counts as black then, as long as
            those of a ray weigh no more than 1/512 in all. On CUDA that is so where all samples of a tile are faint.

    Returns:
        See FusedImage; as march, kilo_mlp and composite give it, up to rounding and the colours left out.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, or a cell names a network that does not exist; on CUDA the
            first call with these cells waits for that.
    """
    check_rays("kilo_render", params, config.n_params, grid, bitfield, coarse, origins, directions)
    shape = [config.width, config.position_frequencies, config.direction_frequencies]
    return FusedImage(
        *_render(
            params, grid.cells, origins, directions, bitfield, coarse, shape, grid.box, density_scale, march.values,
            list(march.jitter or ()), skip_weight,
        )
    )  # fmt: skip


@operator("kilo_render", devices=DEVICES)
def _render(
    params: Tensor, cells: Tensor, origins: Tensor, directions: Tensor, bitfield: Tensor, coarse: Tensor,
    shape: list[int], box: list[float], density_scale: float, march: list[float], jitter: list[int], skip_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    lib = native(origins)
    image = empty_image(origins)
    arrays = (t.contiguous() for t in (origins, directions, bitfield, coarse))
    width = shape[0]
    lib.kilo_render(
        shape, aligned(params), cells.contiguous(), box, density_scale, *arrays, march, list(jitter) or None,
        skip_weight, *image, empty(params, params.shape[0], width * width + width),
    )  # fmt: skip
    return image


@_render.register_fake
def _(params, cells, origins, *others):
    return empty_image(origins)
