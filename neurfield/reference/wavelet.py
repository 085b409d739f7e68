# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def wavelet(u: Tensor, omega: float, scale: float) -> Tensor:
    """u [n, 2 width] -> [n, 2 width]; see neurfield.ops.wavelet."""
    numbers = torch.complex(*u.chunk(2, dim=1))
    h = torch.exp(1j * omega * numbers - (scale * numbers).abs() ** 2)
    return torch.cat([h.real, h.imag], dim=1)
