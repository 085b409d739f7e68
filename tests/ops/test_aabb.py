# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import aabb as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close

BOX = [0.0, -0.5, 0.25, 1.0, 0.5, 0.75]
# a subtraction and a division; their rounding scales with |bound - origin| / |direction|
ROUNDINGS = 2


def rays(n: int, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    return uniform(n, 3, low=-2, high=2, dtype=dtype), uniform(n, 3, low=-1, dtype=dtype, seed=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("n", SIZES)
def test_matches_reference(n: int, dtype: torch.dtype) -> None:
    origins, directions = rays(n, dtype)
    aabb = torch.tensor(BOX, dtype=dtype)
    expected = reference.ray_aabb(origins.double(), directions.double(), aabb.double())
    # a ray within rounding of an edge may miss on one side only: widen the box a little and ask both to agree
    grown = aabb.double() + torch.tensor([-1, -1, -1, 1, 1, 1]) * 1e-5
    sure = torch.isinf(expected[0]) == torch.isinf(reference.ray_aabb(origins.double(), directions.double(), grown)[0])
    assert sure.float().mean() > 0.99 or n == 0
    scale = (2.5 / directions.double().abs().amin(dim=1)).nan_to_num(posinf=0)
    for inputs in ((origins, directions), (strided(origins), strided(directions))):
        for got, want in zip(ops.ray_aabb(*inputs, aabb), expected, strict=True):
            hit = sure & torch.isfinite(want)
            assert torch.equal(got[sure & ~hit].double(), want[sure & ~hit])
            assert_close(got[hit], want[hit], ROUNDINGS, scale[hit])


def test_inside_behind_and_parallel() -> None:
    aabb = torch.tensor([0.0, 0, 0, 1, 1, 1])
    origins = torch.tensor([[0.5, 0.5, 0.5], [2, 0.5, 0.5], [-1, 0.5, 0.5], [-1, 1.5, 0.5], [0.5, 0, -3], [0, 1, 2.0]])
    directions = torch.tensor([[1.0, 0, 0], [1, 0, 0], [2, 0, 0], [1, 0, 0], [0, -0.0, 1], [0, 0, -1]])
    t_near, t_far = ops.ray_aabb(origins, directions, aabb)
    inf = torch.inf
    assert t_near.tolist() == [-0.5, -2, 0.5, inf, 3, 1]
    assert t_far.tolist() == [0.5, -1, 1, -inf, 4, 2]


def test_nan_direction_gives_no_exception() -> None:
    t_near, t_far = ops.ray_aabb(torch.zeros(1, 3), torch.full((1, 3), torch.nan), torch.tensor(BOX))
    assert t_near.shape == t_far.shape == (1,)


def test_opcheck() -> None:
    opcheck(torch.ops.neurfield.ray_aabb.default, (*rays(7), torch.tensor(BOX)))


def test_errors_say_expected_and_found() -> None:
    with pytest.raises(TypeError, match=r"ray_aabb: directions must be float32 \[4, 3\], got float64 \[4, 3\]"):
        ops.ray_aabb(torch.zeros(4, 3), torch.zeros(4, 3).double(), torch.tensor(BOX))
    with pytest.raises(ValueError, match=r"ray_aabb: aabb must be float32 \[6\], got float32 \[2, 3\]"):
        ops.ray_aabb(torch.zeros(4, 3), torch.zeros(4, 3), torch.zeros(2, 3))
