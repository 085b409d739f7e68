# SPDX-License-Identifier: Apache-2.0
"""What the host has drawn, on a device."""

import torch
from torch import Tensor


def hand_over(tensor: Tensor, device: torch.device) -> Tensor:
    """A CPU tensor on a device, without waiting for it: through page-locked memory to CUDA. On the CPU the tensor."""
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
