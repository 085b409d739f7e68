# SPDX-License-Identifier: Apache-2.0
"""What is not the CPU's answer where only the device could know of an error; on the host, too."""

import pytest
import torch

from neurfield import ops
from neurfield.ops import PackedSamples


def check_a_range_outside_has_no_samples(place: torch.device | str) -> None:
    info = torch.tensor([[0, 40], [80, 21], [-1, 3], [40, -1], [101, 0], [40, 50]], device=place)
    t = torch.arange(100.0, device=place)
    samples = PackedSamples(info, info[:0, 0], t, t + 0.5, torch.tensor([100, 0, 100], device=place))
    found = ops.visible_samples(samples, torch.ones(100, device=place), 1e-4, 120)
    n_seen = 19  # each takes e^-1/2 of the light: e^-9.5 is the first below 1e-4
    n = [n_seen, 0, 0, 0, 0, n_seen]
    assert found.packed_info[:, 1].tolist() == n and found.counts.tolist() == [2 * n_seen, 0, 100]
    assert found.t_starts.tolist() == [*range(n_seen), *range(40, 40 + n_seen), *[0] * (120 - 2 * n_seen)]


def test_on_the_host(kernels_on_host) -> None:
    with kernels_on_host:
        check_a_range_outside_has_no_samples("cpu")


@pytest.mark.cuda
def test_on_the_device(device: torch.device) -> None:
    check_a_range_outside_has_no_samples(device)
