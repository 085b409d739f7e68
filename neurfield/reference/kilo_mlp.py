# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def encode(v: Tensor, n_frequencies: int) -> Tensor:
    """[v, sin v, cos v, sin 2v, ...] for v [n, 3]."""
    parts = [v]
    for k in range(n_frequencies):
        parts += [torch.sin(2**k * v), torch.cos(2**k * v)]
    return torch.cat(parts, dim=1)


def kilo_mlp(x: Tensor, directions: Tensor | None, network: Tensor, params: Tensor, config) -> Tensor:
    """See neurfield.ops.kilo_mlp: one network after the other, on the samples that name it."""
    w, n_direction = config.width, 3 + 6 * config.direction_frequencies
    n_position = 3 + 6 * config.position_frequencies
    sizes = [w, n_position * w, w, w * w, w, w * w, w, (w + n_direction) * w, w, 3 * w, 1, 3]
    y = x.new_zeros(x.shape[0], 1 if directions is None else 4)
    for i in range(params.shape[0]):
        rows = (network == i).nonzero()[:, 0]
        b0, w0, b1, w1, b2, w2, b3, w3, w_sigma, w_rgb, b_sigma, b_rgb = params[i, : sum(sizes)].split(sizes)
        h = torch.relu(encode(x[rows], config.position_frequencies) @ w0.view(n_position, w) + b0)
        h = torch.relu(h @ w1.view(w, w) + b1)
        out = (h @ w_sigma + b_sigma)[:, None]
        if directions is not None:
            features = torch.cat([h @ w2.view(w, w) + b2, encode(directions[rows], config.direction_frequencies)], 1)
            h = torch.relu(features @ w3.view(w + n_direction, w) + b3)
            out = torch.cat([out, torch.sigmoid(h @ w_rgb.view(3, w).T + b_rgb)], dim=1)
        y = y.index_add(0, rows, out)
    return y
