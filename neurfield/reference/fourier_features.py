# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def fourier_features(x: Tensor, frequencies: Tensor, gates: Tensor | None = None) -> Tensor:
    """x [n, n_dims], frequencies [m, n_dims], gates [n, n_gates] -> [n, 2 m]; see neurfield.ops.fourier_features."""
    angles = 2 * torch.pi * x @ frequencies.T  # [n, m]
    y = torch.stack([angles.sin(), angles.cos()], dim=-1)  # [n, m, 2]
    if gates is not None:
        m = frequencies.shape[0]
        y = y * torch.stack([gates[:, k * gates.shape[1] // m] for k in range(m)], dim=1)[:, :, None]
    return y.flatten(1)
