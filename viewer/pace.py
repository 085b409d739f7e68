# SPDX-License-Identifier: Apache-2.0
"""How much of the machine pictures may take: all of it, or a share while a training goes on beside them."""

import time
from collections.abc import Callable

SECONDS_PER_FRAME = 0.04  # of a moving picture with its way to the page; 15 frames a second leave 0.067
MOVING_SHARE = 0.33  # of the time while training, for the pictures of all pages that move
RESTING_SHARE = 0.025  # of the time while training, for the pictures of one page at rest
_FRAMES_WHILE_TRAINING = 18.0  # aimed at, since a picture may take somewhat longer than it should


class Pace:
    """Shared by all pages of a viewer.

    Args:
        is_training: whether a training runs at this moment.
    """

    def __init__(self, is_training: Callable[[], bool] = lambda: False) -> None:
        self.is_training = is_training
        self.resting_share = RESTING_SHARE
        self._free_at = 0.0

    @property
    def seconds_per_frame(self) -> float:
        """What a moving picture may take."""
        return MOVING_SHARE / _FRAMES_WHILE_TRAINING if self.is_training() else SECONDS_PER_FRAME

    def delay(self) -> float:
        """Seconds until the next moving picture may begin."""
        return self._free_at - time.monotonic() if self.is_training() else 0.0

    def spent(self, seconds: float) -> None:
        """A moving picture has computed for so long; what it takes beyond its share is waited for."""
        start = time.monotonic() - seconds
        self._free_at = max(self._free_at, start) + seconds / MOVING_SHARE

    def rest(self, seconds: float) -> float:
        """How long a page at rest waits after a picture that took so long, while training."""
        return max(seconds / self.resting_share - seconds, 0.5)
