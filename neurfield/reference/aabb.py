# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def ray_aabb(origins: Tensor, directions: Tensor, aabb: Tensor) -> tuple[Tensor, Tensor]:
    """origins [n, 3], directions [n, 3], aabb [6] -> t_near [n], t_far [n]; see neurfield.ops.ray_aabb."""
    low, high = aabb[:3] - origins, aabb[3:] - origins
    parallel = directions == 0
    safe = torch.where(parallel, torch.ones_like(directions), directions)
    enter = torch.where(parallel, -torch.inf, torch.minimum(low / safe, high / safe)).amax(dim=1)
    leave = torch.where(parallel, torch.inf, torch.maximum(low / safe, high / safe)).amin(dim=1)
    outside = (parallel & ((low > 0) | (high < 0))).any(dim=1)
    miss = outside | (enter > leave)
    return torch.where(miss, torch.inf, enter), torch.where(miss, -torch.inf, leave)
