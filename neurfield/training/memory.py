# SPDX-License-Identifier: Apache-2.0
"""What a run will keep in memory, said before it starts."""

from collections.abc import Iterable

from torch import Tensor

from neurfield.memory import available_bytes, readable


def n_bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def describe(plan: dict[str, int]) -> str:
    """One line: total and parts, with a warning when the machine has less."""
    total = sum(plan.values())
    parts = ", ".join(f"{name} {readable(size)}" for name, size in plan.items())
    free = available_bytes()
    way_out = "use a smaller method or --downscale-factor"
    short = f"; only {readable(free)} are free: {way_out}" if free and total > free else ""
    return f"memory: {readable(total)} beside the libraries ({parts}){short}"
