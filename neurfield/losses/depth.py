# SPDX-License-Identifier: Apache-2.0
"""How far the light of a ray comes from where a depth map says that it does (csrc/cpu/depth_error.h).

The depth error of a ray is 1 - sum_s w_s k(t_s / D), with the weights w_s of its samples, which lie at distances t_s,
the known distance D, and k(r) = max(0, 1 - |r - 1| / TOLERANCE). So it is the mean, over where the light comes from, of
the error of the distance relative to the known one, in units of TOLERANCE and at most 1; light from nowhere has the
error 1. Unlike the error of the mean distance it is 0 only where all light comes from the right place, and no outlier
of the map weighs more than 1.
"""

from torch import Tensor

TOLERANCE = 0.05


def depth_agreement(t: Tensor, distances: Tensor) -> Tensor:
    """k of samples at distances `t`, where `distances`, of a shape that fits, are known; 0 where they are 0."""
    known = distances > 0
    error = (t / distances.where(known, 1.0) - 1).abs() / TOLERANCE
    return (1 - error).clamp_min(0).where(known, 0.0)
