# SPDX-License-Identifier: Apache-2.0
"""How large the pictures are while the camera moves: as large as their time allows.

A picture costs about as much per pixel as the last ones did. Costs that rise are believed at once and costs that fall
slowly, since a slow frame is seen and a coarse one hardly.
"""

import math

_FALLING = 0.25  # how much of a lower cost is believed per picture
_STEPS = 4  # sizes per factor of two; neighbouring frames of one size do not flicker
MIN_SIDE = 16
FIRST_SECONDS_PER_PIXEL = 1e-6


class Resolution:
    """Chooses sizes for pictures that take at most `seconds`."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._cost = FIRST_SECONDS_PER_PIXEL

    def observe(self, width: int, height: int, seconds: float) -> None:
        """A picture of that size took so long."""
        cost = seconds / (width * height)
        self._cost = cost if cost > self._cost else self._cost + _FALLING * (cost - self._cost)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """The size to render a view of `width` x `height` at: no larger, of the same shape."""
        scale = math.sqrt(self.seconds / self._cost / (width * height))
        if scale >= 1:
            return width, height
        scale = 2 ** (math.floor(math.log2(scale) * _STEPS) / _STEPS)
        scale = max(scale, min(1.0, MIN_SIDE / min(width, height)))
        return max(round(width * scale), 1), max(round(height * scale), 1)


def fitted(width: int, height: int, longest: int) -> tuple[int, int]:
    """A size of the same shape whose longer side is at most `longest`."""
    scale = min(1.0, longest / max(width, height))
    return max(round(width * scale), 1), max(round(height * scale), 1)
