# SPDX-License-Identifier: Apache-2.0
"""What an eager call costs beside its work: operators on 32 samples, in microseconds, torch.exp for scale.

On the device where one is found, one call after the other with nothing waited for, otherwise on one thread of the CPU.
"""

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Row, measure, report
from neurfield import ops
from neurfield.training.device import why_not_cuda
from tests.cases import packed_samples, uniform, unit_vectors

N = 32
GRID = ops.GridConfig(n_levels=4, log2_hashmap_size=12)
NETWORK = ops.MLPConfig(32, 16)


def cases(device: torch.device) -> dict[str, tuple[Callable[[], Tensor], list[Tensor]]]:
    """Calls, and what they are differentiated by."""
    table, weights, values = (uniform(n).to(device).requires_grad_() for n in (GRID.n_params, NETWORK.n_params, N))
    positions, features = uniform(N, 3).to(device), uniform(N, NETWORK.n_input_dims).to(device)
    directions = unit_vectors(N).to(device).requires_grad_()
    samples = {name: value.to(device) for name, value in packed_samples([N]).items()}
    leaves = [samples[name].requires_grad_() for name in ("sigmas", "rgbs")]
    return {
        "torch.exp": (lambda: torch.exp(values), [values]),
        "trunc_exp": (lambda: ops.trunc_exp(values), [values]),
        "spherical_harmonics": (lambda: ops.spherical_harmonics(directions, 4), [directions]),
        "hash_grid": (lambda: ops.hash_grid(positions, table, GRID), [table]),
        "fused_mlp": (lambda: ops.fused_mlp(features, weights, NETWORK, half_products=True), [weights]),
        "composite": (lambda: ops.composite(**samples).rgb, leaves),
    }


def row(name: str, fn: Callable[[], object]) -> Row:
    timing = measure(fn, seconds=1, warmup=200)
    return Row(name, 1e6 * timing.median, "us", timing.spread)


def main() -> None:
    device = torch.device("cpu" if why_not_cuda() else "cuda")
    torch.set_num_threads(1)
    rows = []
    for name, (call, leaves) in cases(device).items():
        with torch.no_grad():
            rows.append(row(f"{name}, forward", call))
        grad = torch.ones_like(call())
        both = functools.partial(
            lambda call, leaves, grad: torch.autograd.grad(call(), leaves, grad), call, leaves, grad
        )
        rows.append(row(f"{name}, forward + backward", both))
    where = torch.cuda.get_device_name() if device.type == "cuda" else "the CPU"
    report("calls" if device.type == "cpu" else "calls_cuda", f"calls of operators on {N} samples on {where}", rows)


if __name__ == "__main__":
    main()
