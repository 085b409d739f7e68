# SPDX-License-Identifier: Apache-2.0
"""Fourier features, with and without gates, beside the same in torch operations."""

import torch

from benchmarks.harness import Row, report, throughput
from neurfield import ops
from neurfield.reference import fourier_features as reference
from tests.cases import uniform

N, M = 1 << 15, 256


def main() -> None:
    b = 10 * torch.randn(M, 2, generator=torch.Generator().manual_seed(0))
    x, gates, grad_y = uniform(N, 2), uniform(N, M, seed=1), uniform(N, 2 * M, low=-1, seed=2)
    leaf = x.clone().requires_grad_()
    counts = (256 * uniform(128 * 128, M, seed=3)).to(torch.uint8)
    factors = torch.full((M,), 1 / 25)

    def both(encode) -> None:
        torch.autograd.grad(encode(leaf, b), leaf, grad_y)

    note = f"{M} frequencies in 2 dimensions"
    rows: list[Row] = [
        throughput("forward", N, lambda: ops.fourier_features(x, b), note=note),
        throughput("forward with gates", N, lambda: ops.fourier_features(x, b, gates)),
        throughput("gates of 256 blocks", N, lambda: ops.gates(x, counts, factors, [128, 128])),
        throughput("forward in torch", N, lambda: reference.fourier_features(x, b)),
        throughput("forward+backward", N, lambda: both(ops.fourier_features)),
        throughput("forward+backward in torch", N, lambda: both(reference.fourier_features)),
    ]
    report("fourier_features", f"Fourier features, {N} samples", rows)


if __name__ == "__main__":
    main()
