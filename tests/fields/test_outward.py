# SPDX-License-Identifier: Apache-2.0
"""Directions out of what is dense: exact where they can be said by hand, and steady where the derivative is not."""

import pytest
import torch
from torch import Tensor

from neurfield.fields.outward import outward, slopes
from tests.cases import uniform

REACH = 1 / 256


def test_slopes_of_what_is_linear_are_exact():
    """Corners of many sizes; values are below 10, so a slope is off by 4 roundings of that over 4 halves of 0.1."""
    x, slope = uniform(50, 3), torch.tensor([3.0, -2.0, 0.5])
    half = torch.linspace(0.1, 1.0, 50)
    for given in (0.1, half):
        got = slopes(lambda places: places @ slope, x, given)
        torch.testing.assert_close(got, slope.expand(50, 3), rtol=0.0, atol=10 * 2**-24 * 10)


@pytest.mark.parametrize("sigma", [30.0, 1e6])
def test_out_of_a_wall_is_across_it(sigma):
    """On both sides of it, as far as a corner reaches, and nowhere else."""
    z = torch.tensor([-0.6, -0.5, 0.0, 0.5, 0.6, 2.0]) * REACH
    x = torch.stack([torch.full_like(z, 0.3), torch.full_like(z, 0.4), z], dim=1)
    out = outward(lambda places: torch.where(places[:, 2] < 0, sigma, 0.0), x, torch.full_like(z, REACH))
    expected = torch.tensor([0.0, 1, 1, 1, 0, 0])  # corners lie 0.577 of the reach above and below
    torch.testing.assert_close(torch.nn.functional.normalize(out, dim=1)[:, 2], expected, rtol=1e-6, atol=0.0)
    assert (out[:, :2].abs() <= 1e-6 * out.norm(dim=1, keepdim=True)).all()


def test_what_is_dense_does_not_outweigh_the_rest():
    """A wall 100 thick on one side and 100,000 on the other: 0.25 times that, reach over 1/64, and the logarithm."""

    def density(places: Tensor) -> Tensor:
        return torch.where(places[:, 2] < 0, torch.where(places[:, 0] > 0, 1e5, 1e2), 0.0)

    out = outward(density, torch.zeros(1, 3), torch.tensor([1 / 256]))[0]
    # corners (1, -1, -1) and (-1, 1, -1) have ln 25001 = 10.127 and ln 26 = 3.258, the others 0
    expected = -(10.127 * torch.tensor([1.0, -1, -1]) + 3.258 * torch.tensor([-1.0, 1, -1])) / 4 * 256 * 3**0.5
    torch.testing.assert_close(out, expected, rtol=1e-3, atol=0.0)


def test_a_larger_reach_says_the_same_of_a_larger_thing():
    """Densities are per length: all twice as far and half as dense is as steep, over twice the way."""

    def density(places: Tensor) -> Tensor:
        return 200 * torch.exp(-300 * places.square().sum(dim=1)) * (1 + places[:, 0].sin())

    x = uniform(40, 3, low=-0.1, high=0.1)
    near = outward(density, x, torch.full((40,), REACH))
    far = outward(lambda places: density(places / 2) / 2, 2 * x, torch.full((40,), 2 * REACH))
    torch.testing.assert_close(far, near / 2, rtol=1e-4, atol=1e-3)
    assert near.norm(dim=1).min() > 0.1
