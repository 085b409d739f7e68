# SPDX-License-Identifier: Apache-2.0
"""nerfacc's contract: functions of (t_starts, t_ends, ray_indices), out of our fields and into our compositing."""

import pytest
import torch
from torch import Tensor, nn

from neurfield.rendering.volume import (
    MarchOptions,
    composite_rays,
    composite_samples,
    march_rays,
    packed_samples,
    sample_functions,
)
from neurfield.sampling.occupancy_grid import OccupancyGrid
from tests.cases import packed_samples as packed_case
from tests.cases import uniform, unit_vectors
from tests.compare import assert_close


class Slopes(nn.Module):
    """Density and colour linear in the position, so that every place in an interval has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.tensor(3.0))

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.strength * x[:, 0].abs(), x

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(x)[0], x * directions


def rays(n: int) -> tuple[Tensor, Tensor]:
    origins = 0.5 + unit_vectors(n)
    return origins, torch.nn.functional.normalize(0.3 + 0.4 * uniform(n, 3) - origins, dim=1)


@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_functions_evaluate_the_field_at_the_place(place: float) -> None:
    field, (origins, directions) = Slopes(), rays(5)
    index, t_starts = torch.tensor([0, 0, 3, 4]), torch.tensor([0.1, 0.2, 0.7, 0.3])
    t_ends = t_starts + 0.25
    sigma_fn, rgb_sigma_fn = sample_functions(field, origins, directions, place)
    t = t_starts.double() + place * 0.25
    x = origins[index].double() + t[:, None] * directions[index].double()
    rgbs, sigmas = rgb_sigma_fn(t_starts, t_ends, index)
    # t and x round twice each, where they are of size 2
    assert_close(sigmas.detach(), 3 * x[:, 0].abs(), 4, 3 * 2)
    assert_close(rgbs.detach(), x * directions[index].double(), 4, 2)
    assert torch.equal(sigma_fn(t_starts, t_ends, index), sigmas)
    none = torch.empty(0)
    rgbs, sigmas = rgb_sigma_fn(none, none, torch.empty(0, dtype=torch.int64))
    assert rgbs.shape == (0, 3) and sigmas.shape == sigma_fn(none, none, index[:0]).shape == (0,)


def test_a_field_is_composited_at_the_start_of_its_intervals() -> None:
    field, (origins, directions), options = Slopes(), rays(40), MarchOptions(near=0.0)
    samples = march_rays(OccupancyGrid(1), origins, directions, options)
    _, rgb_sigma_fn = sample_functions(field, origins, directions, place=0)
    ours = composite_rays(field, samples, origins, directions, options)
    theirs = composite_samples(rgb_sigma_fn, samples, options.stop_transmittance)
    assert float(ours.acc.detach().min()) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    grads = [torch.autograd.grad(found.rgb.sum(), field.strength)[0] for found in (ours, theirs)]
    assert torch.equal(*grads) and grads[0] != 0


def test_samples_of_an_estimator_are_composited() -> None:
    """Against the product of transmittances written out; one ray has no samples."""
    case = packed_case([3, 0, 5, 1])
    ray_indices = torch.repeat_interleave(torch.arange(4), case["packed_info"][:, 1])
    samples = packed_samples(ray_indices, case["t_starts"], case["t_ends"], 4)
    assert torch.equal(samples.packed_info, case["packed_info"])
    found = composite_samples(lambda *_: (case["rgbs"], case["sigmas"]), samples, 0.0)
    for ray in range(4):
        mine = ray_indices == ray
        alpha = 1 - torch.exp(-(case["sigmas"] * (case["t_ends"] - case["t_starts"])).double()[mine])
        weights = alpha * torch.cat([alpha.new_ones(1), (1 - alpha).cumprod(0)])[:-1]
        # a few roundings for each of at most 5 samples
        assert_close(found.weights[mine], weights, 8 * 5)
        assert_close(found.rgb[ray], weights @ case["rgbs"].double()[mine], 8 * 5)


@pytest.mark.parametrize("ray_indices", [[0, 1, 0], [0, 1, 4], [-1, 0, 1], [2, 3, -1]])
def test_samples_must_be_packed(ray_indices: list[int]) -> None:
    t = torch.rand(3)
    with pytest.raises(ValueError, match=r"expected ray_indices in increasing order in 0 \.\.\. 3"):
        packed_samples(torch.tensor(ray_indices), t, t, 4)


def test_samples_must_fit_each_other() -> None:
    index, t = torch.tensor([0, 1, 1]), torch.rand(3)
    for wrong, got in (
        ((index, t[:2], t), r"int64 \[3\], \[2\] and \[3\]"),
        ((index, t, t[:, None]), r"int64 \[3\], \[3\] and \[3, 1\]"),
        ((index.int(), t, t), r"int32 \[3\], \[3\] and \[3\]"),
    ):
        with pytest.raises(ValueError, match=rf"expected int64 ray_indices \[n\], .*, got {got}"):
            packed_samples(*wrong, 4)
    assert packed_samples(index[:0], t[:0], t[:0], 2).packed_info.tolist() == [[0, 0], [0, 0]]


def test_a_function_of_another_shape_is_named() -> None:
    samples = packed_samples(torch.tensor([0]), torch.zeros(1), torch.ones(1), 1)
    with pytest.raises(
        ValueError, match=r"composite: sigmas must be float32/float64 \[n_samples\], got float32 \[1, 1"
    ):
        composite_samples(lambda *_: (torch.zeros(1, 3), torch.zeros(1, 1)), samples)
