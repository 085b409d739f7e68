# SPDX-License-Identifier: Apache-2.0
"""Fused MLP beside the multiply-add peak of the machine, for the two networks of instant-ngp; coordinate and modulated
networks beside the same in torch operations.

A layer counts 2 n_in n_out floating-point operations per sample with the dimensions asked for, not the padded ones;
forward and backward count three times the forward.
"""

import itertools
import statistics

import torch
from torch.nn import functional

from benchmarks.harness import Row, measure, report
from neurfield import ops
from neurfield._native import lib
from neurfield.ops import MLPConfig, fused_mlp
from neurfield.ops.fused_mlp import _composed
from tests.cases import uniform

N = 1 << 17
NETWORKS = {
    "density 32-64-16": MLPConfig(32, 16, 64, 1),
    "colour 32-64-64-3": MLPConfig(32, 3, 64, 2, output_activation="Sigmoid"),
}


# networks of images as their papers train them, and the number of samples
COORDINATE = {
    "SIREN 2-256-256-256-3": MLPConfig(2, 3, 256, 3, "Sine", bias=True, first_omega=30, omega=30),
    "FINER 2-256-256-256-3": MLPConfig(2, 3, 256, 3, "FINER", bias=True, first_omega=30, omega=30),
    "Gabor 2-256-256-256-3": MLPConfig(2, 3, 256, 3, "Gabor", bias=True, first_omega=20, omega=20, scale=10),
}
MODULATED = {
    "CAM 512-256-256-256-3": MLPConfig(512, 3, 256, 3, output_activation="Sigmoid", bias=True, normalizes=True),
    "CAM 32-64-64-3": MLPConfig(32, 3, 64, 2, output_activation="Sigmoid", bias=True, normalizes=True),
}
N_LARGE = 1 << 15


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


def against_torch(name: str, config: MLPConfig) -> list[Row]:
    """Forward and backward of the fused network and of the same torch operations, in one process."""
    x, grad_y = uniform(N_LARGE, config.n_input_dims, low=-1), uniform(N_LARGE, config.n_output_dims, low=-1, seed=1)
    bound = 6**0.5 / config.n_neurons**0.5 / config.omega
    params = uniform(config.n_params, low=-bound, high=bound, seed=2).requires_grad_()
    leaves, lookup = [x.requires_grad_(), params], None
    if config.normalizes:
        values = uniform(32 * 32, 2 * config.n_hidden_layers, low=0.5, high=1.5, seed=3).requires_grad_()
        at = uniform(N_LARGE, 2, seed=4)
        leaves.append(values)
        lookup = (at, values)

    def fused() -> None:
        modulation = None if lookup is None else ops.modulation(*lookup, [32, 32])
        torch.autograd.grad(fused_mlp(x, params, config, modulation), leaves, grad_y)

    def composed() -> None:
        modulation = None
        if lookup is not None:
            image = lookup[1].t().reshape(1, -1, 32, 32)
            at = (2 * lookup[0] - 1).flip(1)[None, None]
            modulation = functional.grid_sample(image, at, padding_mode="border", align_corners=True)[0, :, 0].t()
        torch.autograd.grad(_composed(x, params, modulation, config), leaves, grad_y)

    with torch.no_grad():
        modulation = None if lookup is None else ops.modulation(*lookup, [32, 32])
        difference = fused_mlp(x, params, config, modulation) - _composed(x, params, modulation, config)
    assert float(difference.abs().max()) < 1e-3
    times = [measure(step, seconds=3.0) for step in (fused, composed)]
    speed = [N_LARGE / t.median / 1e6 for t in times]
    return [
        Row(f"{name} forward+backward", speed[0], "Ms/s", times[0].spread, note=f"{speed[0] / speed[1]:.2f} x torch"),
        Row(f"{name} in torch", speed[1], "Ms/s", times[1].spread),
    ]


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
    for name, config in (COORDINATE | MODULATED).items():
        rows += against_torch(name, config)
    report("fused_mlp", f"Fused MLP, {N} samples", rows)


if __name__ == "__main__":
    main()
