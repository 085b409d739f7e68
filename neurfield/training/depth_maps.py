# SPDX-License-Identifier: Apache-2.0
"""Depth maps that a scene is learned from, unless they contradict the cameras."""

from collections.abc import Iterator

import torch
from torch import Tensor

from neurfield.data.scene import Scene, is_known
from neurfield.sampling.pixels import PixelSampler

_N_PIXELS = 1 << 14  # looked at
_NEAREST = 0.02  # in unit space, which holds what the cameras look at
_OUTSIDE = 0.95  # less may be what is behind an object; it teaches nothing, and spoils nothing


def in_unit(scene: Scene, views: list[int]) -> Iterator[Tensor | None] | None:
    """The maps of these views in unit space, one by one, as they are large; None if none of them has one.

    What is not known is 0 there.
    """
    maps = [scene.depths[view] for view in views] if scene.depths else []
    if all(depth is None for depth in maps):
        return None
    scale = scene.normalization.scale
    return (None if depth is None else (depth * scale).where(is_known(depth), 0.0) for depth in maps)


def contradiction(pixels: PixelSampler, aabb: tuple[float, ...], seed: int) -> str | None:
    """What shows that the maps have another unit than the cameras of `pixels`, in unit space; None if nothing does.

    Of another unit, next to all points lie outside of the field's box, or most all but in the cameras.
    """
    drawn = pixels.sample(_N_PIXELS, 0, seed)
    distances = pixels.distances(drawn)
    if distances is None or not bool((distances > 0).any()):
        return None
    known = distances > 0
    if float(torch.quantile(distances[known], 0.5)) < _NEAREST:
        return f"what they see lies within {_NEAREST:g} of the cameras, in the unit of the field's box"
    points = (drawn.origins + drawn.directions * distances[:, None])[known]
    low, high = points.new_tensor(aabb).view(2, 3)
    outside = float(((points < low) | (points > high)).any(dim=1).float().mean())
    if outside > _OUTSIDE:
        return f"{outside:.0%} of what they see lies outside of the field's box"
    return None
