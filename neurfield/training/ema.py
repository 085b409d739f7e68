# SPDX-License-Identifier: Apache-2.0
"""Exponential moving average of parameters, used for everything but training; debiased like tiny-cuda-nn's."""

import torch
from torch import Tensor, nn


class Ema:
    """`average_k = (average_(k-1) d (1 - d^(k-1)) + w (1 - d)) / (1 - d^k)`.

    Costs one pass over the parameters per update; updating every few steps makes that small.
    """

    def __init__(self, field: nn.Module, decay: float):
        self.decay = decay
        self.n_updates = 0
        self._average = {name: value.detach().clone() for name, value in field.named_parameters()}

    @torch.no_grad()
    def update(self, field: nn.Module) -> None:
        """Takes the present parameters into the average."""
        self.n_updates += 1
        weight = (1 - self.decay) / (1 - self.decay**self.n_updates)
        for name, value in field.named_parameters():
            self._average[name].lerp_(value, weight)

    def tensors(self) -> dict[str, Tensor]:
        """The averages by parameter name."""
        return self._average
