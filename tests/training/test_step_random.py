# SPDX-License-Identifier: Apache-2.0
"""Random numbers by seed and step."""

import itertools

import torch

from neurfield.training.signal_step import POOL_STEP
from neurfield.training.step_random import step_generator


def test_each_seed_and_step_has_numbers_of_its_own():
    """Seeds alone do not show it: torch's generator on the CPU leaves the upper half of one aside."""
    seeds, steps = (0, 1, 2, 42, 1 << 30), (0, 1, 2, 1000, 1_000_000, POOL_STEP)
    drawn = {
        tuple(torch.rand(4, generator=step_generator(*which)).tolist()) for which in itertools.product(seeds, steps)
    }
    assert len(drawn) == len(seeds) * len(steps)
    assert torch.equal(*(torch.rand(4, generator=step_generator(7, 9)) for _ in range(2)))
