# SPDX-License-Identifier: Apache-2.0
"""Colour spaces and backgrounds of stored images. Fields are fitted to, and give, sRGB values in 0 ... 1."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

Background = Literal["white", "black"]
BACKGROUNDS: dict[str, tuple[float, float, float]] = {"white": (1.0, 1.0, 1.0), "black": (0.0, 0.0, 0.0)}

# What tells an object before one colour from a photo: so much of the outermost pixels has it, within 8-bit steps that
# JPEG takes.
_FLAT_SHARE = 0.75
_FLAT_STEPS = 3


def linear_to_srgb(x: Tensor) -> Tensor:
    """IEC 61966-2-1 encoding of linear values, clamped to 0 ... 1."""
    x = x.clamp(0, 1)
    return torch.where(x <= 0.0031308, 12.92 * x, 1.055 * x.clamp_min(0.0031308) ** (1 / 2.4) - 0.055)


def to_bytes(x: Tensor) -> Tensor:
    """Values of 0 ... 1, what is beyond clamped, as uint8, rounded."""
    return (x.clamp(0, 1) * 255 + 0.5).to(torch.uint8)


def encoded(image: Tensor) -> Tensor:
    """An image of a Scene, `[h, w, 3 or 4]`, with sRGB colours: uint8 ones are, linear float32 ones become so."""
    if image.dtype == torch.uint8:
        return image
    return torch.cat([linear_to_srgb(image[..., :3]), image[..., 3:].clamp(0, 1)], dim=2)


def over_background(image: Tensor, background: Tensor) -> Tensor:
    """An image of a Scene as float32 sRGB `[h, w, 3]`, straight alpha composited over `background [3]`."""
    value = encoded(image)
    value = value.float() / 255 if value.dtype == torch.uint8 else value
    if value.shape[2] == 3:
        return value
    return value[..., :3] * value[..., 3:] + background * (1 - value[..., 3:])


def flat_background(images: Sequence[Tensor], masks: Sequence[Tensor | None] | None = None) -> Background | None:
    """Which of BACKGROUNDS opaque images of a Scene show along their edges, as renderings without alpha do; or None.

    Pixels that masks ignore say nothing.
    """
    edges = torch.cat([_edge(image, mask) for image, mask in zip(images, masks or [None] * len(images), strict=True)])
    if edges.shape[1] == 4 or not len(edges):
        return None
    value = edges.float() / 255 if edges.dtype == torch.uint8 else edges
    names: tuple[Background, ...] = get_args(Background)
    for name in names:
        is_flat = ((value - torch.tensor(BACKGROUNDS[name])).abs() <= _FLAT_STEPS / 255).all(dim=1)
        if is_flat.float().mean() >= _FLAT_SHARE:
            return name
    return None


def _edge(image: Tensor, mask: Tensor | None) -> Tensor:
    """The outermost pixels `[n, channels]`."""
    chosen = torch.ones(image.shape[:2], dtype=torch.bool)
    chosen[1:-1, 1:-1] = False
    if mask is not None:
        chosen &= mask > 0
    return encoded(image[chosen][None])[0]
