# SPDX-License-Identifier: Apache-2.0
"""Grid encoding (16 x 2, T = 2^19, 16 to 2048 vertices) on samples in the order of rays, beside random table loads.

The roof of a figure is the measured rate of random loads of one table row from one level's table (2 MB fp16, 4 MB
fp32), 8 corners x 16 levels a sample. Samples along a ray share corners, so it can be exceeded; the scatter also
stores, and Adam reads and writes every touched row of four arrays, whose cost a larger batch shares: `ngp` trains with
2^18 samples a step.
"""

import statistics
from collections.abc import Callable

import torch

from benchmarks.harness import Row, report, throughput
from neurfield import ops
from neurfield._native import lib
from neurfield.sampling.occupancy_grid import BASE_STEP
from tests.cases import generator, uniform

CONFIG = ops.GridConfig(per_level_scale=128 ** (1 / 15))
N, N_LARGE = 1 << 17, 1 << 18
LOADS = (1 << CONFIG.n_input_dims) * CONFIG.n_levels
LEVEL_ENTRIES = max(level.n_entries for level in CONFIG.levels())


def ray_samples(n: int) -> torch.Tensor:
    """[n, 3] in the unit cube: runs of 10 to 20 consecutive samples on lines in random places and directions."""
    n_rays, k = n // 5, torch.arange(20)
    origins = uniform(n_rays, 1, 3)
    directions = torch.nn.functional.normalize(uniform(n_rays, 1, 3, low=-1, seed=1), dim=2)
    lengths = torch.randint(10, 21, (n_rays, 1), generator=generator(2))
    x = origins + k[:, None] * BASE_STEP * directions
    inside = (k < lengths) & ((x >= 0) & (x <= 1)).all(dim=2)
    return x[inside][:n].contiguous()


def tasks() -> list[tuple[str, Callable[[], object], int, int]]:
    """(name, function, samples, bytes of a table row) of every figure."""
    x = ray_samples(N)
    table = uniform(CONFIG.n_params, low=-0.5, high=0.5)
    half = table.half()
    grad_y = uniform(N_LARGE, CONFIG.n_output_dims, low=-1e-3, high=1e-3, seed=1)
    large, grad_large, grad_y = ray_samples(N_LARGE), grad_y, grad_y[:N]
    direction = uniform(N, 3, low=-1, seed=2)
    moments = [torch.zeros_like(table) for _ in range(2)]
    counts = torch.zeros(table.shape, dtype=torch.int16)
    scratch = torch.zeros(torch.get_num_threads(), LEVEL_ENTRIES * CONFIG.n_features_per_level)

    def backward() -> None:
        torch.ops.neurfield.hash_grid_backward_params(x, grad_y, None, CONFIG.layout, CONFIG.per_level_scale)

    def backward_input() -> None:
        torch.ops.neurfield.hash_grid_backward_input(
            x, table, None, grad_y, None, CONFIG.layout, CONFIG.per_level_scale
        )

    def backward_adam(x: torch.Tensor, grad_y: torch.Tensor, steps: torch.Tensor | None) -> None:
        ops.hash_grid_adam_step(
            x, grad_y, table, *moments, scratch, CONFIG, step=100, learning_rate=1e-2, steps=steps, copy=half
        )

    def second(*needed: bool) -> None:
        torch.ops.neurfield.hash_grid_backward_backward_input(
            x, table, None, grad_y, direction, None, needed, CONFIG.layout, CONFIG.per_level_scale
        )

    return [
        ("forward, fp16 table", lambda: ops.hash_grid(x, half, CONFIG), N, 4),
        ("forward, fp32 table", lambda: ops.hash_grid(x, table, CONFIG), N, 8),
        ("backward", backward, N, 8),
        ("backward + Adam, one step count", lambda: backward_adam(x, grad_y, None), N, 8),
        ("backward + Adam, own step counts", lambda: backward_adam(x, grad_y, counts), N, 8),
        ("the same of 2^18 samples, one", lambda: backward_adam(large, grad_large, None), N_LARGE, 8),
        ("the same of 2^18 samples, own", lambda: backward_adam(large, grad_large, counts), N_LARGE, 8),
        ("backward to positions", backward_input, N, 8),
        ("backward of that to the table", lambda: second(True, False, False), N, 8),
        ("backward of that to all", lambda: second(True, True, True), N, 8),
    ]


def main() -> None:
    rows, loads = [], {}
    for row_bytes in (4, 8):
        n_bytes = LEVEL_ENTRIES * row_bytes
        rates = [lib.measure_random_loads(n_bytes, row_bytes, 0.1) for _ in range(5)]
        loads[row_bytes] = statistics.median(rates)
        spread = (max(rates) - min(rates)) / loads[row_bytes]
        rows.append(Row(f"random {row_bytes}-byte loads from {n_bytes >> 20} MB", loads[row_bytes], "M/s", spread))
    for name, fn, n, row_bytes in tasks():
        rows.append(throughput(name, n, fn, roof=loads[row_bytes] / LOADS))
    report("hash_grid", f"Grid encoding, {N} samples in the order of rays", rows)


if __name__ == "__main__":
    main()
