# SPDX-License-Identifier: Apache-2.0
"""The search for the samples of a KiloNeRF that have weight on CUDA: what it keeps; on the host, too."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from neurfield import ops
from neurfield.ops import FusedMarch, PackedSamples
from tests.ops.test_kilo_render import CONFIG, SCALE, cells, grid, parameters, rays

Find = Callable[..., PackedSamples]


def find_on(place: torch.device | str) -> Find:
    def find(n: int, march: FusedMarch, params: Tensor | None = None, part=slice(None), capacity: int | None = None):
        occupancy, made = grid(), cells()
        tensors = (t.to(place) for t in (occupancy.bitfield, occupancy.coarse, *(x[part] for x in rays(n))))
        made = ops.KiloCells(made.cells.to(place), made.low, made.scale)
        params = (parameters() if params is None else params).to(place)
        found = ops.kilo_visible(params, made, CONFIG, SCALE, *tensors, march, capacity)
        return PackedSamples(*(x.cpu() for x in found))

    return find


def check_against_the_cpu(find: Find) -> None:
    for march in (FusedMarch(step_scale=2.0), FusedMarch(cone_angle=1 / 256, max_samples=45, stop_transmittance=0.1)):
        expected, actual = (made(1200, march) for made in (find_on("cpu"), find))
        # a density next to zero, or a transmittance next to the limit, may fall on either side
        same = expected.packed_info[:, 1] == actual.packed_info[:, 1]
        assert same.float().mean() > 0.98 and expected.packed_info[:, 1].max() > 3
        starts, others = (x.t_starts[same[x.ray_indices]] for x in (expected, actual))
        assert (starts == others).float().mean() > 0.99
        assert int(actual.packed_info[:, 1].sum()) == len(actual.t_starts) and actual.n_dropped == 0


def check_a_ray_on_its_own(find: Find) -> None:
    """Rays of three blocks, and a part of them in other blocks and tiles."""
    march, part = FusedMarch(step_scale=2.0), slice(37, 1100, 3)
    whole, some = find(1200, march), find(1200, march, part=part)
    assert torch.equal(whole.packed_info[part, 1], some.packed_info[:, 1])
    for ray, (start, count) in enumerate(some.packed_info.tolist()):
        first = int(whole.packed_info[37 + 3 * ray, 0])
        assert torch.equal(whole.t_ends[first : first + count], some.t_ends[start : start + count])


def check_fog(find: Find) -> None:
    """Every sample that has a network, more than the first guess has room for; a capacity that ends within a block."""
    fog = parameters() * 0
    CONFIG.parts(fog)["b_sigma"].fill_(1e-6)
    for capacity in (None, 2000, 0):
        expected, actual = (made(300, FusedMarch(), fog, capacity=capacity) for made in (find_on("cpu"), find))
        assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True))
        assert capacity is not None or len(expected.t_starts) > 8 * 300


def check_nan(find: Find) -> None:
    params = parameters()
    CONFIG.parts(params)["b_sigma"].fill_(torch.nan)
    expected, actual = (made(200, FusedMarch(step_scale=2.0), params) for made in (find_on("cpu"), find))
    assert all(torch.equal(a, b) for a, b in zip(actual, expected, strict=True)) and len(actual.t_starts) > 50


CHECKS = pytest.mark.parametrize("check", [check_against_the_cpu, check_a_ray_on_its_own, check_fog, check_nan])


@CHECKS
def test_on_the_host(kernels_on_host, check: Callable[[Find], None]) -> None:
    def find(*arguments, **options):
        with kernels_on_host:
            return find_on("cpu")(*arguments, **options)

    assert find(0, FusedMarch()).counts.tolist() == [0, 0, 0]
    check(find)


@pytest.mark.cuda
@CHECKS
def test_on_the_device(device: torch.device, check: Callable[[Find], None]) -> None:
    check(find_on(device))
