# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor

from neurfield.reference.composite import composite


def visible_samples(
    sigmas: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    counts: Tensor,
    stop_transmittance: float,
    capacity: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """packed_info [n_rays, 2], ray_indices, t_starts, t_ends [capacity], counts [3]; see neurfield.ops.visible_samples.

    Ray by ray into lists. Densities are numbers, no NaN.
    """
    weights = composite(
        sigmas, sigmas.new_zeros(len(sigmas), 3), t_starts, t_ends, packed_info, None, stop_transmittance
    )[3]
    info, rows = list[tuple[int, int]](), list[tuple[int, int]]()
    dropped, is_full = int(counts[1]), False
    for ray, (start, count) in enumerate(packed_info.tolist()):
        seen = weights[start : start + count].nonzero()[:, 0].tolist()
        n = seen[-1] + 1 if seen else 0
        is_full = is_full or len(rows) + n > capacity
        if is_full:
            dropped, n = dropped + (n > 0), 0
        info.append((len(rows), n))
        rows += [(ray, start + i) for i in range(n)]
    ray_indices, source = torch.tensor(rows, dtype=torch.int64).view(-1, 2).unbind(1)
    behind = capacity - len(rows)
    return (
        torch.tensor(info, dtype=torch.int64).view(-1, 2),
        torch.cat([ray_indices, ray_indices.new_zeros(behind)]),
        torch.cat([t_starts[source], t_starts.new_zeros(behind)]),
        torch.cat([t_ends[source], t_ends.new_zeros(behind)]),
        torch.tensor([len(rows), dropped, int(counts[2])]),
    )
