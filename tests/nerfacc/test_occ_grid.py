# SPDX-License-Identifier: Apache-2.0
"""Intervals of rays whose middles lie in occupied cells, by a loop over both; how cells are learned."""

import math

import pytest
import torch
from torch import Tensor

from neurfield.nerfacc import OccGridEstimator
from neurfield.rendering.volume import composite_samples, packed_samples
from neurfield.training.device import why_not_cuda
from tests.cases import uniform, unit_vectors

BOX = (-1.0, -0.5, 0.0, 1.0, 1.5, 2.0)  # a cube of side 2 around (0, 0.5, 1)


def rays(n: int) -> tuple[Tensor, Tensor]:
    """Towards the box from around it, and some from inside of it."""
    middle = torch.tensor([0.0, 0.5, 1.0])
    origins = middle + 4 * unit_vectors(n, seed=1)
    origins[::4] = middle + uniform(len(origins[::4]), 3, low=-1, seed=2)
    return origins, torch.nn.functional.normalize(middle + uniform(n, 3, low=-1.2, high=1.2, seed=3) - origins, dim=1)


def estimator(levels: int = 1, resolution: int = 8, share: float = 0.4) -> OccGridEstimator:
    made = OccGridEstimator(BOX, resolution, levels)
    made.binaries.copy_(uniform(*made.binaries.shape, seed=4) < share)
    return made


def by_loops(
    made: OccGridEstimator, origins: Tensor, directions: Tensor, near: Tensor, far: Tensor, step: float
) -> tuple[list[tuple[int, int]], set[tuple[int, int]]]:
    """(ray, number of the interval) of each sample, and those so near to a face that roundings decide."""
    samples, doubtful = [], set()
    n = int(made.resolution[0])
    boxes = made.aabbs.double()
    for ray, (o, d) in enumerate(zip(origins.double(), directions.double(), strict=True)):
        for k in range(math.ceil((float(far[ray]) - float(near[ray])) / step)):
            t = float(near[ray]) + (k + 0.5) * step
            if t >= float(far[ray]):
                break
            x = o + t * d
            place = [(x - box[:3]) / (box[3:] - box[:3]) for box in boxes]
            if any(float((p * n - (p * n).round()).abs().min()) < 1e-4 for p in place):
                doubtful.add((ray, k))
            level = next((i for i, p in enumerate(place) if bool(((p >= 0) & (p < 1)).all())), None)
            if level is not None:
                cell = (place[level] * n).long().tolist()
                if bool(made.binaries[level][tuple(cell)]):
                    samples.append((ray, k))
    return samples, doubtful


@pytest.mark.parametrize("levels", [1, 3])
@pytest.mark.parametrize("planes", ["plain", "of each ray"])
def test_samples_are_the_intervals_whose_middles_are_occupied(levels: int, planes: str) -> None:
    made, step, n = estimator(levels), 0.07, 40
    origins, directions = rays(n)
    near, far = torch.full((n,), 0.2), torch.full((n,), 9.0)
    options = {}
    if planes == "of each ray":
        options = {"t_min": 3 * uniform(n, seed=5), "t_max": 3 + 3 * uniform(n, seed=6)}
        near, far = torch.maximum(near, options["t_min"]), torch.minimum(far, options["t_max"])
    ray, starts, ends = made.sampling(
        origins, directions, near_plane=0.2, far_plane=9.0, render_step_size=step, **options
    )
    expected, doubtful = by_loops(made, origins, directions, near, far, step)
    number = torch.round((starts - near[ray]) / step).long()
    actual = list(zip(ray.tolist(), number.tolist(), strict=True))
    assert actual == sorted(actual) and len(expected) > 200 and len(doubtful) < 0.02 * n * 9 / step
    assert set(actual) ^ set(expected) <= doubtful
    # t rounds where it is of size 8
    torch.testing.assert_close(starts, near[ray] + number * step, rtol=0, atol=2**-20)
    torch.testing.assert_close(ends - starts, torch.full_like(starts, step), rtol=0, atol=2**-20)


def test_stratified_shifts_each_ray_by_less_than_a_step() -> None:
    made, (origins, directions) = estimator(share=1.1), rays(200)
    torch.manual_seed(1)
    ray, starts, _ = made.sampling(origins, directions, render_step_size=0.1, stratified=True)
    shift = torch.frac(starts / 0.1 + 1e-4)
    first = torch.ones_like(ray, dtype=torch.bool)
    first[1:] = ray.diff() > 0
    of_ray = torch.zeros(200).scatter(0, ray[first], shift[first])
    assert (shift - of_ray[ray]).abs().max() < 1e-3 and 0.4 < float(shift[first].mean()) < 0.6


def test_invisible_samples_are_left_out() -> None:
    made, (origins, directions) = estimator(share=1.1), rays(50)
    made.occs.fill_(1.0)
    ray, starts, ends = made.sampling(origins, directions, render_step_size=0.05)
    sigmas = 20 * uniform(len(ray), seed=7)
    sigmas[ray == 3] = torch.inf

    def place(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> Tensor:
        return sigmas

    alphas = -torch.expm1(-sigmas * (ends - starts))
    for eps, threshold in ((1e-4, 0.0), (0.05, 0.3)):
        expected = []
        left, last = 1.0, -1
        for i, (r, alpha) in enumerate(zip(ray.tolist(), alphas.double().tolist(), strict=True)):
            left = 1.0 if r != last else left
            if left >= eps and (threshold == 0 or alpha >= threshold):
                expected.append(i)
            left, last = left * (1 - alpha), r
        by_sigma = made.sampling(
            origins, directions, place, render_step_size=0.05, early_stop_eps=eps, alpha_thre=threshold
        )
        by_alpha = made.sampling(
            origins, directions, alpha_fn=lambda *_: alphas, render_step_size=0.05, early_stop_eps=eps,
            alpha_thre=threshold,
        )  # fmt: skip
        for got in (by_sigma, by_alpha):
            assert torch.equal(got[0], ray[expected]) and torch.equal(got[1], starts[expected])
    made.occs.fill_(0.1)  # the mean bounds the threshold
    kept = made.sampling(origins, directions, place, render_step_size=0.05, early_stop_eps=0.0, alpha_thre=0.5)[0]
    assert len(kept) == int((alphas >= 0.1).sum())


def test_nan_ends_its_ray_and_no_other() -> None:
    """What looks at values for NaN must come upon it."""
    made, (origins, directions) = estimator(share=1.1), rays(50)
    ray, starts, _ = made.sampling(origins, directions, render_step_size=0.05)
    at = [int((ray == number).nonzero()[4]) for number in (0, 20)]
    values = torch.full((len(ray),), 1e-3)
    values[at] = torch.nan
    sigma = made.sampling(origins, directions, lambda *_: values, render_step_size=0.05)
    alpha = made.sampling(origins, directions, alpha_fn=lambda *_: values, render_step_size=0.05)
    hidden = sum((ray == ray[i]) & (starts > starts[i]) for i in at) > 0
    for got in (sigma, alpha):
        assert torch.equal(got[0], ray[~hidden]) and torch.equal(got[1], starts[~hidden])


def test_intervals_of_a_cone_grow() -> None:
    made, (origins, directions) = estimator(3, share=1.1), rays(20)
    ray, starts, ends = made.sampling(origins, directions, render_step_size=0.01, cone_angle=0.05, near_plane=0.1)
    length = ends - starts
    torch.testing.assert_close(length, (0.05 * starts).clamp_min(0.01), rtol=0.06, atol=0)  # but for two steps each
    same = ray[1:] == ray[:-1]
    torch.testing.assert_close(starts[1:][same], ends[:-1][same])


def test_every_cell_is_learned_before_the_warmup_is_over() -> None:
    made, seen = OccGridEstimator(BOX, 8, 2), []

    def occupancy(x: Tensor) -> Tensor:
        seen.append(x)
        return ((x - torch.tensor([0.0, 0.5, 1.0])).abs().amax(dim=1, keepdim=True) < 0.5).float()

    made.occs[7] = -1
    for step in range(3):
        made.update_every_n_steps(step, occupancy, n=2)
    assert [len(x) for x in seen] == [512] * 4
    low, high = made.aabbs[1, :3], made.aabbs[1, 3:]
    assert ((seen[1] >= low) & (seen[1] <= high)).all() and float(seen[1].min()) < float(made.aabbs[0].min())
    inner = torch.zeros(8, 8, 8, dtype=torch.bool)
    inner[2:6, 2:6, 2:6] = True
    assert torch.equal(made.binaries[0], inner) and made.occs[7] == -1
    assert made.binaries[1].sum() == 8  # cells of twice the size
    made.update_every_n_steps(16, lambda x: torch.zeros(len(x), 1), ema_decay=0.5)
    assert made.occs.max() == 0.5
    with pytest.raises(RuntimeError, match="update_every_n_steps is for training"):
        made.eval().update_every_n_steps(0, occupancy)


def test_afterwards_some_and_occupied_cells_are_learned() -> None:
    made, seen = estimator(share=0.1), []
    n_occupied = int(made.binaries.sum())
    made.occs.copy_(made.binaries.flatten().float())
    before = made.occs.clone()

    def occupancy(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 1)

    made._update(256, occupancy, ema_decay=0.9)
    assert len(seen[0]) == 512 // 4 + n_occupied
    torch.testing.assert_close(made.occs[before == 1], torch.full((n_occupied,), 0.9))  # all of them were drawn
    made.binaries.fill_(True)
    made._update(256, occupancy)
    assert len(seen[1]) == 512 // 4 * 2


def test_cells_that_no_camera_sees_are_closed() -> None:
    made = OccGridEstimator((0, 0, 0, 1, 1, 1), 8)
    pose = torch.eye(3, 4)[None].clone()
    pose[0, :, 3] = torch.tensor([0.5, 0.5, -1.0])  # looks along z
    K = torch.tensor([[8.0, 0, 5], [0, 8.0, 5], [0, 0, 1]])
    made.mark_invisible_cells(K, pose, 10, 5, 0.5)  # the lower half of a picture
    made.update_every_n_steps(0, lambda x: torch.ones(len(x), 1))
    assert made.binaries[0, :, :4].all() and not made.binaries[0, :, 4:].any()
    made.mark_invisible_cells(K, pose, 10, 10, near_plane=1.5)
    assert (made.occs < 0).any()


def test_what_it_gives_is_rendered_by_ours() -> None:
    made, (origins, directions) = estimator(share=1.1), rays(30)
    ray, starts, ends = made.sampling(origins, directions, render_step_size=0.01)

    def rgb_sigma_fn(t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones(len(t_starts), 3), torch.full_like(t_starts, 0.7)

    found = composite_samples(rgb_sigma_fn, packed_samples(ray, starts, ends, 30))
    way = torch.zeros(30).index_add(0, ray, ends - starts)
    torch.testing.assert_close(found.acc, -torch.expm1(-0.7 * way), rtol=0, atol=1e-4)
    assert way.max() > 1


def test_a_state_keeps_the_grid_and_nothing_is_found_at_first() -> None:
    fresh = OccGridEstimator(list(BOX), torch.tensor([8, 8, 8]))
    assert set(fresh.state_dict()) == {"resolution", "aabbs", "occs", "binaries"}
    assert len(fresh.sampling(*rays(9))[0]) == 0
    fresh.load_state_dict(estimator().state_dict())
    a, b = (made.sampling(*rays(9), render_step_size=0.1)[1] for made in (fresh, estimator()))
    assert torch.equal(a, b) and len(a)


def test_errors_say_expected_and_found() -> None:
    with pytest.raises(ValueError, match=r"roi_aabb must be a cube .*, got \[0.0, 0.0, 0.0, 1.0, 1.0, 2.0\]"):
        OccGridEstimator((0, 0, 0, 1, 1, 2))
    for resolution, levels in ((100, 1), ((8, 8, 16), 1), (8, 9)):
        with pytest.raises(ValueError, match=r"resolution must be one of .* and levels in 1 ... 8, got"):
            OccGridEstimator(BOX, resolution, levels)
    with pytest.raises(ValueError, match=r"expected \[\d+\] densities or opacities, got \[\d+, 1\]"):
        estimator().sampling(*rays(9), lambda a, b, c: a[:, None], render_step_size=0.1)


@pytest.mark.cuda
def test_a_device_finds_the_samples_of_the_cpu() -> None:
    if reason := why_not_cuda():
        pytest.skip(f"no CUDA: {reason}")
    for levels in (1, 3):
        here, there = estimator(levels), estimator(levels).to("cuda")
        expected = here.sampling(*rays(200), render_step_size=0.07)
        actual = there.sampling(*(x.to("cuda") for x in rays(200)), render_step_size=0.07)
        assert abs(len(actual[0]) - len(expected[0])) <= 2  # places at a border
        if len(actual[0]) == len(expected[0]):
            torch.testing.assert_close(actual[1].cpu(), expected[1], rtol=0, atol=2**-20)
        there.update_every_n_steps(0, lambda x: (x[:, :1] > 0).float())
        assert there.binaries.any() and not there.binaries.all()
