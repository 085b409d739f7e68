# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def composite(
    sigmas: Tensor,
    rgbs: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    background: Tensor | None = None,
    early_stop_eps: float = 1e-4,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """rgb [n_rays, 3], depth, acc [n_rays], weights [n_samples], distortion [n_rays]; see neurfield.ops.composite.

    One ray after the other with cumulative products; the distortion as the double sum that defines it.
    """
    rows = []
    weights = torch.zeros_like(sigmas)
    for ray, (start, count) in enumerate(packed_info.tolist()):
        index = torch.arange(start, start + count)
        sigma, rgb, t0, t1 = sigmas[index], rgbs[index], t_starts[index], t_ends[index]
        delta = t1 - t0
        alpha = -torch.expm1(-sigma * delta)  # [count]
        after = torch.cumprod(1 - alpha, dim=0)
        trans = torch.cat([torch.ones_like(alpha[:1]), after[:-1]])
        w = torch.where(trans >= early_stop_eps, trans * alpha, 0)
        middle = 0.5 * (t0 + t1)
        distortion = (w[:, None] * w * (middle[:, None] - middle).abs()).sum() + (w * w * delta).sum() / 3
        color = (w[:, None] * rgb).sum(0)
        if background is not None:
            color = color + (1 - w.sum()) * (background if background.dim() == 1 else background[ray])
        rows.append((color, (w * t0).sum(), w.sum(), distortion))
        weights = weights.index_copy(0, index, w)
    if not rows:
        empty = sigmas.new_zeros(0)
        return sigmas.new_zeros(0, 3), empty, empty, weights, empty
    rgb, depth, acc, distortion = (torch.stack(column) for column in zip(*rows, strict=True))
    return rgb, depth, acc, weights, distortion
