# SPDX-License-Identifier: Apache-2.0
"""Fused MLP beside the multiply-add peak of the machine, for the two networks of instant-ngp.

A layer counts 2 n_in n_out floating-point operations per sample with the dimensions asked for, not the padded ones;
forward and backward count three times the forward.
"""

import itertools
import statistics

import torch

from benchmarks.harness import Row, measure, report
from neurfield._native import lib
from neurfield.ops import MLPConfig, fused_mlp
from tests.cases import uniform

N = 1 << 17
NETWORKS = {
    "density 32-64-16": MLPConfig(32, 16, 64, 1),
    "colour 32-64-64-3": MLPConfig(32, 3, 64, 2, output_activation="Sigmoid"),
}


def gflop(config: MLPConfig, n: int) -> float:
    widths = [config.n_input_dims, *[config.n_neurons] * config.n_hidden_layers, config.n_output_dims]
    return 2e-9 * n * sum(a * b for a, b in itertools.pairwise(widths))


def steps(config: MLPConfig, n: int):
    """Inference, and a forward with its backward to parameters and input."""
    x, grad_y = uniform(n, config.n_input_dims, low=-1), uniform(n, config.n_output_dims, low=-1, seed=1)
    params = uniform(config.n_params, low=-0.3, high=0.3, seed=2).requires_grad_()
    leaf = x.clone().requires_grad_()

    def forward() -> None:
        with torch.no_grad():
            fused_mlp(x, params, config)

    def both() -> None:
        torch.autograd.grad(fused_mlp(leaf, params, config), (leaf, params), grad_y)

    return forward, both


def main() -> None:
    peaks = [lib.measure_fma_peak(0.2)]
    timings: dict[str, list[tuple[float, float, float]]] = {"forward": [], "forward+backward": []}
    rows = []
    for config in NETWORKS.values():
        work = gflop(config, N)
        for what, factor, step in zip(timings, (1, 3), steps(config, N), strict=True):
            timing = measure(step)
            timings[what].append((factor * work, timing.median, timing.spread))
            peaks.append(lib.measure_fma_peak(0.2))
    peak = statistics.median(peaks)
    rows.append(Row("FMA peak", peak, "GFLOP/s", (max(peaks) - min(peaks)) / peak, note="registers only"))
    for what, parts in timings.items():
        for name, (work, median, spread) in zip(NETWORKS, parts, strict=True):
            rows.append(Row(f"{what} {name}", work / median, "GFLOP/s", spread, peak))
        work, median = sum(p[0] for p in parts), sum(p[1] for p in parts)
        spread = sum(p[1] * p[2] for p in parts) / median
        note = f"{N / median / 1e6:.1f} Ms/s"
        rows.append(Row(f"{what} both", work / median, "GFLOP/s", spread, peak, note))
    report("fused_mlp", f"Fused MLP, {N} samples", rows)


if __name__ == "__main__":
    main()
