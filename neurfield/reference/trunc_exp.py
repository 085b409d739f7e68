# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


class _TruncExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx, grad_y: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_y * x.clamp(-15, 15).exp()


def trunc_exp(x: Tensor) -> Tensor:
    """Any shape; see neurfield.ops.trunc_exp."""
    return _TruncExp.apply(x)
