# SPDX-License-Identifier: Apache-2.0
"""What a run will keep in memory, said before it starts."""

from collections.abc import Iterable

from torch import Tensor


def n_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def available_bytes() -> int | None:
    """Memory that this machine can still give, or None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return None


def readable(size: int) -> str:
    return f"{size / 2**30:.2f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def describe(plan: dict[str, int]) -> str:
    """One line: total and parts, with a warning when the machine has less."""
    total = sum(plan.values())
    parts = ", ".join(f"{name} {readable(size)}" for name, size in plan.items())
    free = available_bytes()
    short = f"; only {readable(free)} are free, use a smaller method or smaller images" if free and total > free else ""
    return f"memory: {readable(total)} beside the libraries ({parts}){short}"
