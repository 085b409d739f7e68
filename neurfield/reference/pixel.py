# SPDX-License-Identifier: Apache-2.0
"""Which pixels a step draws: every block and pixel spelled out, no packing, no binary search."""

import math
from collections.abc import Sequence

from torch import Tensor

from neurfield.reference.random import random_below, random_stream, random_u32

BLOCK = 8  # pixels per side
STREAM = 3  # purpose of the random numbers
ATTEMPTS = 8  # before the last block is searched for a valid pixel


def blocks_of(sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """View, x and y of the first pixel of every block, in the order of their numbers."""
    return [
        (view, x, y)
        for view, (width, height) in enumerate(sizes)
        for y in range(0, height, BLOCK)
        for x in range(0, width, BLOCK)
    ]


def pick_pixel(
    sizes: Sequence[tuple[int, int]],
    ray: int,
    seed: int,
    step: int,
    masks: Sequence[Tensor] | None = None,
    listed: Sequence[int] | None = None,
    latitudes: Sequence[Sequence[float]] | None = None,
) -> tuple[int, int, int]:
    """View, x and y of the pixel of one ray; see neurfield.ops.sample_pixels.

    Args:
        sizes: width and height of each view.
        masks: per view `[height, width]`, 0 = never draw it.
        listed: numbers of the blocks to draw from; None = all.
        latitudes: per view, a panorama, those of its rows in radians; None = there are none.
    """
    blocks, stream = blocks_of(sizes), random_stream(seed, step, STREAM)
    numbers = range(len(blocks)) if listed is None else listed

    def pixel(number: int, inner: int) -> tuple[int, int, int]:
        view, x, y = blocks[number]
        return view, x + inner % BLOCK, y + inner // BLOCK

    def is_valid(view: int, x: int, y: int) -> bool:
        width, height = sizes[view]
        return x < width and y < height and (masks is None or bool(masks[view][y, x]))

    def is_taken(view: int, y: int, attempt: int) -> bool:
        drawn = (random_u32(stream, ray, 2 * ATTEMPTS + attempt) >> 8) / 2**24
        return latitudes is None or drawn < math.cos(latitudes[view][y])

    number = inner = 0
    for attempt in range(ATTEMPTS):
        number = numbers[random_below(stream, ray, 2 * attempt, len(numbers))]
        inner = random_below(stream, ray, 2 * attempt + 1, BLOCK * BLOCK)
        view, x, y = pixel(number, inner)
        if is_valid(view, x, y) and is_taken(view, y, attempt):
            return view, x, y
    around = (pixel(number, (inner + i) % BLOCK**2) for i in range(1, BLOCK**2))
    return next(found for found in around if is_valid(*found))
