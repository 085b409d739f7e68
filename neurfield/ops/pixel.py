# SPDX-License-Identifier: Apache-2.0
"""Random training pixels with their rays (csrc/math/pixel.h)."""

from typing import NamedTuple

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops.camera import CameraTensors

PIXEL_BLOCK = 8  # pixels per side of a block
MAX_BLOCKS = 2**31 - 1


class SampledPixels(NamedTuple):
    """Attributes:
    origins, directions: float32 `[n, 3]`, unit directions, in the frame of the cameras.
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
) -> SampledPixels:
    """Draws pixels uniformly among those that are listed and not masked, and makes their rays.

    Args:
        values: uint8 or float32 `[n_pixels, n_channels]`, all images one after the other, row by row; 1 grey, 2 grey
            and alpha, 3 RGB, 4 RGBA.
        sizes: int64 `[n_views, 2]` width, height; on CUDA, where checking would wait for the device, they are trusted.
        cameras: float32 Cameras of the images.
        n: pixels to draw, with replacement.
        seed, step: name the random numbers.
        masks: uint8 `[n_pixels]`, 0 = never draw it, or None. With masks, every listed block needs a valid pixel.
        blocks: int32, the blocks of 8 x 8 pixels to draw from, numbered through all images row by row; None = all.

    Returns:
        SampledPixels; the same for any number of threads. Not differentiable.

    Raises:
        TypeError, ValueError: wrong dtype or shape; nothing to draw from.
    """
    check_tensor("sample_pixels", "values", values, ("n_pixels", "n_channels"), (torch.uint8, torch.float32))
    n_views = cameras.c2w.shape[0]
    check_tensor("sample_pixels", "sizes", sizes, (n_views, 2), (torch.int64,), values.device)
    on_cuda = values.is_cuda  # what only the device knows is not read: that would wait for it
    n_pixels = values.shape[0] if on_cuda else int(sizes.prod(dim=1).sum())
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
    else:
        n_listed = n_pixels if on_cuda else int(block_counts(sizes).sum())
    if not 0 < n_listed <= MAX_BLOCKS and n > 0:
        raise ValueError(f"sample_pixels: expected 1 ... {MAX_BLOCKS} blocks of pixels to draw from, got {n_listed}")
    return SampledPixels(
        *_sample(
            values, sizes, cameras.c2w, cameras.intrinsics, cameras.distortion, cameras.models, n, seed, step, masks,
            blocks,
        )
    )  # fmt: skip


@torch.library.custom_op("neurfield::sample_pixels", mutates_args=(), device_types=DEVICES)
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
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    lib = native(values)
    counts, areas = block_counts(sizes), sizes.prod(dim=1)
    outputs = _empty_outputs(c2w, n)
    lib.sample_pixels(
        values.contiguous(), None if masks is None else masks.contiguous(), areas.cumsum(0) - areas,
        sizes.contiguous(), counts.cumsum(0) - counts, None if blocks is None else blocks.contiguous(),
        c2w.contiguous(), intrinsics.contiguous(), distortion.contiguous(), models.contiguous(), seed, step, *outputs,
    )  # fmt: skip
    return outputs


@_sample.register_fake
def _(values, sizes, c2w, intrinsics, distortion, models, n, seed, step, masks, blocks):
    return _empty_outputs(c2w, n)


def _empty_outputs(c2w: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return (
        c2w.new_empty(n, 3),
        c2w.new_empty(n, 3),
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


@torch.library.custom_op("neurfield::over_background", mutates_args=(), device_types=DEVICES)
def _over_background(rgba: Tensor, color: Tensor | None, seed: int, step: int) -> tuple[Tensor, Tensor]:
    lib = native(rgba)
    outputs = _empty_colors(rgba)
    lib.over_background(rgba.contiguous(), None if color is None else color.contiguous(), seed, step, *outputs)
    return outputs


@_over_background.register_fake
def _(rgba, color, seed, step):
    return _empty_colors(rgba)


def _empty_colors(rgba: Tensor) -> tuple[Tensor, Tensor]:
    return rgba.new_empty(rgba.shape[0], 3), rgba.new_empty(rgba.shape[0], 3)
