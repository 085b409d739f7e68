# SPDX-License-Identifier: Apache-2.0
"""The benchmark's field through neurfield's fused operators, which find the samples themselves by marching."""

import numpy as np
import torch

from benchmarks.peers.field import BETAS, EPSILON, LEARNING_RATE, Problem, Steps
from neurfield import ops
from neurfield.sampling.occupancy_grid import BASE_STEP

GRID = ops.GridConfig(per_level_scale=128 ** (1 / 15))
DENSITY = ops.MLPConfig(32, 16, 64, 1)
COLOR = ops.MLPConfig(32, 3, 64, 2, output_activation="Sigmoid")


def packed(config: ops.MLPConfig, *matrices: np.ndarray) -> torch.Tensor:
    params = torch.zeros(config.n_params)
    for (weights, _), matrix in zip(config.matrices(params), matrices, strict=True):
        weights[: len(matrix)] = torch.from_numpy(matrix)
    return params


def steps(problem: Problem, half: bool, bf16_products: bool = True) -> Steps:
    """`half`: the table is read in its 16-bit copy. `bf16_products` is FusedField's."""
    p = problem
    table = torch.from_numpy(p.table).flatten()
    d0, d1, *color = p.weights.values()
    params = packed(DENSITY, d0, d1), packed(COLOR, *color)
    copy = table.half() if half else None
    box = (0.0,) * 3, (1.0,) * 3
    field = ops.FusedField(GRID, table, DENSITY, params[0], COLOR, params[1], 4, *box, copy, bf16_products)
    bits = ops.occupancy_bits(torch.ones(1, 128**3), 0.5)
    march = ops.FusedMarch(p.spacing / BASE_STEP, near=p.near, far=p.near + (p.per_ray - 0.5) * p.spacing)
    rays, target = (torch.from_numpy(p.origins), torch.from_numpy(p.directions)), torch.from_numpy(p.target)
    background, loss = torch.zeros_like(target), ops.FusedLoss(huber_alpha=None)
    workspace = ops.FusedWorkspace(field, 2 * len(p.positions))
    rates = {"learning_rate": LEARNING_RATE, "beta1": BETAS[0], "beta2": BETAS[1], "epsilon": EPSILON}
    moments = [[torch.zeros_like(values) for _ in range(2)] for values in (*params, table)]
    counts = torch.zeros(table.shape, dtype=torch.int16)
    done = 0

    def infer() -> torch.Tensor:
        return ops.fused_render(field, *bits, *rays, march).rgb

    def train() -> None:
        nonlocal done
        done += 1
        report = ops.fused_gradients(workspace, *bits, *rays, target, background, march, loss, float(p.per_ray))
        expected = (len(p.positions), len(p.positions), 0, True)
        if (report.n_samples, report.n_evaluated, report.n_rays_dropped, report.is_finite) != expected:
            raise RuntimeError(f"expected {len(p.positions)} samples without early stop, got {report}")
        for values, grad, state in zip(params, (workspace.grad_density, workspace.grad_color), moments, strict=False):
            ops.adam_step(values, grad, *state, step=done, **rates)
        ops.fused_table_adam(workspace, *moments[2], counts, step=done, **rates)

    return Steps(infer, train, lambda: infer().numpy())
