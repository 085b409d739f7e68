# SPDX-License-Identifier: Apache-2.0
"""What the host has drawn, on a device."""

import torch
from torch import Tensor


def hand_over(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the CPU on a device, without waiting for it: through page-locked memory to CUDA. One that lies
    there is given back."""
    if device.type == "cuda" and not tensor.is_cuda:
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
