# SPDX-License-Identifier: Apache-2.0
"""torch's random numbers of a training step: a function of seed and step alone."""

import torch

_APART = 1_000_003  # steps until a run comes to the numbers of the one with the next seed


def step_seed(seed: int, step: int) -> int:
    """For torch's generators; that of the CPU knows a seed by its lower 32 bits."""
    return (seed * _APART + step) % (1 << 32)


def step_generator(seed: int, step: int) -> torch.Generator:
    """Of the CPU, so that the numbers are the same for every device."""
    return torch.Generator().manual_seed(step_seed(seed, step))
