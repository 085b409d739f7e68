# SPDX-License-Identifier: Apache-2.0
import torch
from torch import Tensor


def adam_step(
    params: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    step: int | Tensor,
    learning_rate: float,
    betas: tuple[float, float],
    epsilon: float,
    l2_reg: float,
    skip_zero: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """New params, exp_avg and exp_avg_sq; see neurfield.ops.adam. `step` is k, of each parameter if a tensor."""
    beta1, beta2 = betas
    g = grad + l2_reg * params
    m = beta1 * exp_avg + (1 - beta1) * g
    v = beta2 * exp_avg_sq + (1 - beta2) * g * g
    k = torch.as_tensor(step).to(params.dtype)
    rate = learning_rate * torch.sqrt(1 - beta2**k) / (1 - beta1**k)
    w = params - rate * m / (v.sqrt() + epsilon)
    if not skip_zero:
        return w, m, v
    live = grad != 0
    return torch.where(live, w, params), torch.where(live, m, exp_avg), torch.where(live, v, exp_avg_sq)
