# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def frequency(x: Tensor, n_frequencies: int) -> Tensor:
    """x [n, n_dims] -> [n, n_dims * 2 * n_frequencies]; see neurfield.ops.frequency."""
    scale = torch.pi * 2.0 ** torch.arange(n_frequencies, dtype=x.dtype, device=x.device)
    angles = x[:, :, None] * scale  # [n, n_dims, n_frequencies]
    return torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
