# SPDX-License-Identifier: Apache-2.0
"""How large the pictures are while the camera moves: as large as their time allows.

A picture that took too long makes the next one smaller at once, one that was quick makes it larger step by step: a slow
frame is seen, a coarse one hardly. The number of pixels is what is changed, not a cost per pixel that is measured:
a part of each picture's time does not depend on its size, and would make small pictures look ever more expensive.
"""

import math

_SMALLEST, _LARGEST = 0.25, 1.6  # factors by which the pixels change from one picture to the next
# Sizes step by 2^(1/2) in pixels. Within these parts of the time nothing changes, so that no two sizes take turns: one
# step up from _QUICK costs less than _SLOW, one step down from _SLOW more than _QUICK.
_QUICK, _SLOW = 0.65, 1.15
_STEPS = 4  # sizes per factor of two; neighbouring frames of one size do not flicker
_FIRST_PIXELS = 160 * 120
MIN_SIDE = 32


class Resolution:
    """Chooses sizes for pictures that take at most `seconds`, which may be set anew at any time."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._pixels = float(_FIRST_PIXELS)

    def observe(self, width: int, height: int, seconds: float) -> None:
        """A picture of that size took so long."""
        used = seconds / self.seconds
        if used > _SLOW:
            self._pixels = width * height * max(1 / used, _SMALLEST)
        elif used < _QUICK:
            # from what was wanted, where rounding or the page's size made the picture smaller, but not far from it
            self._pixels = min(self._pixels, 1.5 * width * height) * min(1 / max(used, 1e-6), _LARGEST)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size to render a view of `width` x `height` at: no larger, of the same shape."""
        scale = math.sqrt(self._pixels / (width * height))
        if scale >= 1:
            return width, height
        scale = 2 ** (math.floor(math.log2(scale) * _STEPS) / _STEPS)
        scale = max(scale, min(1.0, MIN_SIDE / min(width, height)))
        return max(round(width * scale), 1), max(round(height * scale), 1)


def fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """A size of the same shape whose longer side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)
