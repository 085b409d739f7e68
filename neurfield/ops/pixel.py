# SPDX-License-Identifier: Apache-2.0
"""Random training pixels with their rays (csrc/math/pixel.h)."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, contiguous, native, read_once
from neurfield.ops._operator import operator
from neurfield.ops.camera import CameraTensors

PIXEL_BLOCK = 8  # pixels per side of a block
MAX_BLOCKS = 2**31 - 1
MAX_RAYS_PER_PIXEL = 64


class SampledPixels(NamedTuple):
    """Attributes:
    origins, directions: float32 `[n * rays_per_pixel, 3]`, unit directions, in the frame of the cameras; the rays of a
        pixel one after the other.
    targets: float32 `[n, 4]` RGB and straight alpha; 0 ... 1 for uint8 images, alpha 1 where they have none.
    picks: int32 `[n, 3]` view, x, y of the pixel.
    """

    origins: Tensor
    directions: Tensor
    targets: Tensor
    picks: Tensor


def block_counts(sizes: Tensor) -> Tensor:
    """Blocks of 8 x 8 pixels, partial ones included, per image; sizes int64 `[n_views, 2]` width, height."""
    return ((sizes + PIXEL_BLOCK - 1) // PIXEL_BLOCK).prod(dim=1)


def sample_pixels(
    values: Tensor,
    sizes: Tensor,
    cameras: CameraTensors,
    n: int,
    seed: int,
    step: int,
    masks: Tensor | None = None,
    blocks: Tensor | None = None,
    rays_per_pixel: int = 1,
) -> SampledPixels:
    """Draws pixels uniformly among those that are listed and not masked, and makes their rays.

    A panorama has as many pixels near its poles as at its horizon, for ever less of the view. Of its pixels one is as
    likely as its solid angle is large, cos(latitude), and those of the horizon are as likely as pixels of other images.

    Args:
        values: uint8 or float32 `[n_pixels, n_channels]`, all images one after the other, row by row; 1 grey, 2 grey
            and alpha, 3 RGB, 4 RGBA.
        sizes: int64 `[n_views, 2]` width, height. On CUDA, the first call with these sizes or blocks reads them, to
            check them, and waits for the device; later ones do not while the tensors stay as they are.
        cameras: float32 Cameras of the images.
        n: pixels to draw, with replacement.
        seed, step: name the random numbers.
        masks: uint8 `[n_pixels]`, 0 = never draw it, or None. With masks, every listed block needs a valid pixel.
        blocks: int32, the blocks of 8 x 8 pixels to draw from, numbered through all images row by row; None = all.
        rays_per_pixel: a square number, 1 ... 64: a ray through the middle of each of as many equal parts of the pixel,
            row by row.

    Returns:
        SampledPixels; the same for any number of threads. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape; a block outside of the images; nothing to draw from.
    """
    check_tensor("sample_pixels", "values", values, ("n_pixels", "n_channels"), (torch.uint8, torch.float32))
    n_views = cameras.c2w.shape[0]
    check_tensor("sample_pixels", "sizes", sizes, (n_views, 2), (torch.int64,), values.device)
    n_pixels, n_blocks = _totals(sizes)
    if values.shape[0] != n_pixels or not 1 <= values.shape[1] <= 4:
        raise ValueError(
            f"sample_pixels: values must be [{n_pixels}, 1 ... 4] for these sizes, got {list(values.shape)}"
        )
    for name, tensor, shape, dtype in (
        ("c2w", cameras.c2w, (3, 4), torch.float32),
        ("intrinsics", cameras.intrinsics, (4,), torch.float32),
        ("distortion", cameras.distortion, (6,), torch.float32),
        ("models", cameras.models, (), torch.int64),
    ):
        check_tensor("sample_pixels", name, tensor, (n_views, *shape), (dtype,), values.device)
    if masks is not None:
        check_tensor("sample_pixels", "masks", masks, (n_pixels,), (torch.uint8,), values.device)
    if blocks is not None:
        check_tensor("sample_pixels", "blocks", blocks, ("n_blocks",), (torch.int32,), values.device)
        n_listed = blocks.shape[0]
        first, last = _range(blocks) if n_listed else (0, 0)
        if first < 0 or last >= n_blocks:
            raise ValueError(
                f"sample_pixels: blocks must lie in 0 ... {n_blocks - 1} for these sizes, got {first} ... {last}"
            )
    else:
        n_listed = n_blocks
    if not 0 < n_listed <= MAX_BLOCKS and n > 0:
        raise ValueError(f"sample_pixels: expected 1 ... {MAX_BLOCKS} blocks of pixels to draw from, got {n_listed}")
    side = rays_per_side("sample_pixels", rays_per_pixel)
    return SampledPixels(
        *_sample(
            values, sizes, cameras.c2w, cameras.intrinsics, cameras.distortion, cameras.models, n, seed, step, masks,
            blocks, side,
        )
    )  # fmt: skip


@read_once
def _totals(sizes: Tensor) -> tuple[int, int]:
    """Pixels and blocks of all images."""
    n_pixels, n_blocks = torch.stack([sizes.prod(dim=1).sum(), block_counts(sizes).sum()]).tolist()
    return n_pixels, n_blocks


@read_once
def _starts(sizes: Tensor) -> tuple[Tensor, Tensor]:
    """First pixel and first block of each image."""
    areas, counts = sizes.prod(dim=1), block_counts(sizes)
    return areas.cumsum(0) - areas, counts.cumsum(0) - counts


@read_once
def _range(blocks: Tensor) -> tuple[int, int]:
    """Lowest and highest number."""
    first, last = torch.stack(blocks.aminmax()).tolist()
    return first, last


def rays_per_side(op: str, rays_per_pixel: int) -> int:
    """Root of a number of rays per pixel.

    Raises:
        ValueError: not a square number from 1 to MAX_RAYS_PER_PIXEL.
    """
    side = math.isqrt(max(rays_per_pixel, 0))
    if side * side != rays_per_pixel or not 1 <= rays_per_pixel <= MAX_RAYS_PER_PIXEL:
        squares = ", ".join(str(i * i) for i in range(1, math.isqrt(MAX_RAYS_PER_PIXEL) + 1))
        raise ValueError(f"{op}: rays_per_pixel must be one of {squares}, got {rays_per_pixel}")
    return side


@operator("sample_pixels", devices=DEVICES)
def _sample(
    values: Tensor,
    sizes: Tensor,
    c2w: Tensor,
    intrinsics: Tensor,
    distortion: Tensor,
    models: Tensor,
    n: int,
    seed: int,
    step: int,
    masks: Tensor | None,
    blocks: Tensor | None,
    side: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lib = native(values)
    first_pixels, first_blocks = _starts(sizes)
    outputs = _empty_outputs(c2w, n, side)
    lib.sample_pixels(
        values.contiguous(), contiguous(masks), first_pixels, sizes.contiguous(),
        first_blocks, contiguous(blocks),
        c2w.contiguous(), intrinsics.contiguous(), distortion.contiguous(), models.contiguous(), seed, step, side,
        *outputs,
    )  # fmt: skip
    return outputs


@_sample.register_fake
def _(values, sizes, c2w, intrinsics, distortion, models, n, seed, step, masks, blocks, side):
    return _empty_outputs(c2w, n, side)


def _empty_outputs(c2w: Tensor, n: int, side: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        c2w.new_empty(n * side**2, 3),
        c2w.new_empty(n * side**2, 3),
        c2w.new_empty(n, 4),
        c2w.new_empty(n, 3, dtype=torch.int32),
    )


def over_background(rgba: Tensor, color: Tensor | None = None, seed: int = 0, step: int = 0) -> tuple[Tensor, Tensor]:
    """Straight alpha over a background, `alpha rgb + (1 - alpha) background`.

    Args:
        rgba: float32 `[n, 4]`.
        color: float32 `[3]`, the background of all; None: a random one for each, uniform in [0, 1).
        seed, step: name the random numbers.

    Returns:
        Colours and backgrounds, float32 `[n, 3]`; the same for any number of threads. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape.
    """
    check_tensor("over_background", "rgba", rgba, ("n", 4), (torch.float32,))
    if color is not None:
        check_tensor("over_background", "color", color, (3,), (torch.float32,), rgba.device)
    return _over_background(rgba, color, seed, step)


@operator("over_background", devices=DEVICES)
def _over_background(rgba: Tensor, color: Tensor | None, seed: int, step: int) -> tuple[Tensor, Tensor]:
    lib = native(rgba)
    outputs = _empty_colors(rgba)
    lib.over_background(rgba.contiguous(), contiguous(color), seed, step, *outputs)
    return outputs


@_over_background.register_fake
def _(rgba, color, seed, step):
    return _empty_colors(rgba)


def _empty_colors(rgba: Tensor) -> tuple[Tensor, Tensor]:
    return rgba.new_empty(rgba.shape[0], 3), rgba.new_empty(rgba.shape[0], 3)
