# SPDX-License-Identifier: Apache-2.0
"""What a CUDA device can do at most, measured in the run whose rows are held against it; and how its work is timed."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

import torch

from benchmarks.harness import Row
from tests.cases import uniform

REPETITIONS = 50


def milliseconds(fn: Callable[[], object]) -> tuple[float, float]:
    """Median and relative spread of one call, between two events of the stream, allocations included."""
    for _ in range(5):
        fn()
    times = []
    for _ in range(REPETITIONS):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        fn()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    quartiles = statistics.quantiles(times, n=4)
    median = statistics.median(times)
    return median, (quartiles[2] - quartiles[0]) / median


def copy_row(device: torch.device) -> Row:
    """GB/s, read and written."""
    source = torch.zeros(2**28, device=device)
    median, spread = milliseconds(lambda: source.clone())
    return Row("copy of 1 GiB", 8 * source.numel() / median / 1e6, "GB/s", spread)


def matrix_row(device: torch.device) -> Row:
    """What a large product of float16 matrices reaches."""
    a, b = (uniform(8192, 8192, low=-1, seed=s).half().to(device) for s in range(2))
    median, spread = milliseconds(lambda: a @ b)
    return Row("matrix product of 8192^3", 2 * 8192**3 / median / 1e9, "TFLOP/s", spread)


@dataclass(frozen=True)
class Card:
    """The two rows that others are held against."""

    copy: Row
    matrix: Row

    @classmethod
    def measured(cls, device: torch.device) -> "Card":
        return cls(copy_row(device), matrix_row(device))

    @property
    def rows(self) -> list[Row]:
        return [self.copy, self.matrix]

    def roof(self, n_bytes: float, flops: float) -> tuple[float, str]:
        """Million times a second that so many bytes can move and so many FLOP can be done; and what was counted."""
        seconds = max(n_bytes / (1e9 * self.copy.value), flops / (1e12 * self.matrix.value))
        return 1e-6 / seconds, f"{n_bytes:.0f} B, {flops:.0f} FLOP each"
