# SPDX-License-Identifier: Apache-2.0
"""Points of a scene of which it is known which views see them, as structure from motion finds them."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SeenPoints:
    """Who sees what.

    Attributes:
        positions: float32 `[n_points, 3]`, world.
        points, views: int64 `[n_seen]`: this view sees that point.
    """

    positions: Tensor
    points: Tensor
    views: Tensor

    def __len__(self) -> int:
        return self.points.shape[0]
