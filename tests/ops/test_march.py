# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.reference import march as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import EPS
from tests.ops.test_occupancy import random_grid

CONE = 1 / 256


def rays(n: int, side: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """From around the box of `side` (some from inside) to a point in it; the first ones run along the axes."""
    origins = 0.5 + side * uniform(n, 3, low=-1.2, high=1.2, seed=seed)
    directions = 0.5 + side * uniform(n, 3, low=-0.5, high=0.5, seed=seed + 1) - origins
    for i in range(min(n, 3)):
        directions[i] = torch.eye(3)[i] * (-1 if i == 1 else 1)
        origins[i] = 0.52 - directions[i] * side  # not along the border of cells
    return origins, torch.nn.functional.normalize(directions, dim=1)


def full_grid(n_cascades: int, resolution: int = 8) -> tuple[Tensor, Tensor]:
    return ops.occupancy_bits(torch.ones(n_cascades, resolution**3), 0.5)


@pytest.mark.parametrize("jitter", [False, True])
@pytest.mark.parametrize(
    ("n_cascades", "cone_angle", "step_scale"), [(1, 0.0, 1.0), (1, 0.0, 2.0), (2, CONE, 1.0), (5, CONE, 1.5)]
)
def test_matches_reference(n_cascades: int, cone_angle: float, step_scale: float, jitter: bool) -> None:
    bitfield, coarse = ops.occupancy_bits(random_grid(n_cascades, 32, share=0.1), 0.5)
    side = 2.0 ** (n_cascades - 1)
    origins, directions = rays(40, side)
    step = 7 if jitter else None
    got = ops.march(
        origins, directions, bitfield, coarse, cone_angle=cone_angle, step_scale=step_scale, seed=1, step=step,
        max_samples=100000, near=0.05,
    )  # fmt: skip
    # the same jitter, read off a grid that is full: its first sample is step 0
    full = ops.march(
        origins, directions, *full_grid(n_cascades), cone_angle=cone_angle, step_scale=step_scale, seed=1, step=step,
        near=0.05, max_samples=1,
    )  # fmt: skip
    n_masked = n_steps = 0
    for ray in range(40):
        start, count = got.packed_info[ray].tolist()
        assert (got.ray_indices[start : start + count] == ray).all()
        settings = {"step_scale": step_scale, "cone_angle": cone_angle, "near": 0.05}
        origin, direction = origins[ray].double(), directions[ray].double()
        jittered = 0.0
        if jitter and full.packed_info[ray, 1]:
            first = reference.march_ray(origin, direction, bitfield, **settings)[0][:1]
            t = full.t_starts[full.packed_info[ray, 0]].double()
            jittered = float((t - first) / (reference.BASE_STEP * step_scale))
            if cone_angle > 0:
                counts = [reference.step_count(float(v), step_scale, cone_angle) for v in (t, first)]
                jittered = counts[0] - counts[1]
            assert -1e-3 < jittered < 1 + 1e-3
        t_starts, t_ends, occupied, border = reference.march_ray(
            origin, direction, bitfield, jitter=jittered, **settings
        )
        # Named band: positions round at the size of the scene, t by the step count's error (march.h), and the test
        # reads the jitter back with the same error; steps nearer to a border of a cell may fall on either side.
        t_error = EPS[torch.float32] * (32 * (t_starts + origin.abs().max()) + 6 * 2000 * (t_ends - t_starts))
        masked = border < 4 * t_error
        n_masked += int(masked.sum())
        n_steps += len(masked)
        # every sample of the op is a step of the reference ...
        mine = got.t_starts[start : start + count].double()
        nearest = torch.searchsorted(t_starts + (t_ends - t_starts) / 2, mine).clamp_max(len(t_starts) - 1)
        if count:
            assert ((mine - t_starts[nearest]).abs() <= t_error[nearest]).all()
            assert ((got.t_ends[start : start + count] - t_ends[nearest]).abs() <= 2 * t_error[nearest]).all()
            assert (nearest.diff() > 0).all()
        # ... and it has all of them that are occupied
        found = torch.zeros_like(occupied)
        found[nearest] = True
        assert torch.equal(found[~masked] if count else found[~masked] & False, occupied[~masked])
    assert n_masked < 0.02 * n_steps


@pytest.mark.parametrize(("n_cascades", "cone_angle"), [(1, 0.0), (3, 0.0), (3, CONE), (8, CONE), (8, 0.05)])
def test_skipping_gives_the_samples_of_stepping(n_cascades: int, cone_angle: float) -> None:
    bitfield, coarse = ops.occupancy_bits(random_grid(n_cascades, 32, share=0.01), 0.5)
    origins, directions = rays(1000, 2.0 ** (n_cascades - 1), seed=3)
    settings = {"cone_angle": cone_angle, "seed": 2, "step": 1, "max_samples": 100000}
    skipped = ops.march(origins, directions, bitfield, coarse, **settings)
    stepped = ops.march(origins, directions, bitfield, torch.zeros_like(coarse), **settings)
    assert skipped.t_starts.shape[0] > 500
    for a, b in zip(skipped, stepped, strict=True):
        assert a == b if isinstance(a, int) else torch.equal(a, b)  # bit for bit


@pytest.mark.parametrize(
    ("t", "dt"),
    [
        (0.1, 0.0016914559),
        (0.43, 0.0016914559),
        (0.5, 0.001953125),
        (1.0, 0.00390625),
        (4.0, 0.015625),
        (100.0, 0.390625),
        (500.0, 1.7320508),
    ],
)
def test_golden_steps(t: float, dt: float) -> None:
    origin = torch.tensor([[0.5, 0.5, 0.5 - 64 - t]]) if t >= 100 else torch.tensor([[0.5, 0.5, 0.5]])
    samples = ops.march(origin, torch.tensor([[0.0, 0.0, 1.0]]), *full_grid(8), cone_angle=CONE, near=t, max_samples=1)
    assert float(samples.t_starts) == pytest.approx(t, rel=1e-6)
    # the difference of two floats near t, each with the error of the step count
    assert float(samples.t_ends - samples.t_starts) == pytest.approx(dt, abs=4 * EPS[torch.float32] * (t + 2000 * dt))


def test_full_grid_covers_the_ray_without_gaps() -> None:
    origins, directions = rays(50)
    samples = ops.march(origins, directions, *full_grid(1))
    same_ray = samples.ray_indices[1:] == samples.ray_indices[:-1]
    assert torch.equal(samples.t_ends[:-1][same_ray], samples.t_starts[1:][same_ray])
    assert (samples.t_ends > samples.t_starts).all()
    t_near, t_far = ops.ray_aabb(origins, directions, torch.tensor([0.0, 0, 0, 1, 1, 1]))
    lengths = torch.zeros(50).index_add(0, samples.ray_indices, samples.t_ends - samples.t_starts)
    wanted = (t_far - t_near.clamp_min(0)).clamp_min(0)
    assert ((lengths >= wanted - 1e-5) & (lengths <= wanted + 1.01 * reference.BASE_STEP)).all()


@pytest.mark.parametrize("n", SIZES)
def test_sizes_threads_and_strides(n: int) -> None:
    grid = ops.occupancy_bits(random_grid(1, 32), 0.5)
    origins, directions = rays(n)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ops.march(strided(origins), strided(directions), *grid, step=0, capacity=n * 40))
    finally:
        torch.set_num_threads(before)
    for result in results:
        assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(result, results[0], strict=True))


def test_capacity_drops_whole_rays_from_the_end() -> None:
    grid = ops.occupancy_bits(random_grid(1, 32), 0.5)
    origins, directions = rays(600)
    free = ops.march(origins, directions, *grid, step=0)
    assert free.n_dropped == 0
    capacity = free.t_starts.shape[0] // 2
    tight = ops.march(origins, directions, *grid, step=0, capacity=capacity)
    counts, kept = free.packed_info[:, 1], tight.packed_info[:, 1]
    fits = counts.cumsum(0) <= capacity
    assert torch.equal(kept, torch.where(fits, counts, 0))
    assert tight.n_dropped == int((~fits & (counts > 0)).sum()) > 0
    assert torch.equal(tight.t_starts, free.t_starts[: tight.t_starts.shape[0]])
    for room in (capacity, 2 * int(counts.sum())):
        exact = ops.march(origins, directions, *grid, step=0, capacity=room)
        padded = ops.march(origins, directions, *grid, step=0, capacity=room, padded=True)
        n = exact.t_starts.shape[0]
        assert torch.equal(padded.packed_info, exact.packed_info) and torch.equal(padded.counts, exact.counts)
        for a, b in zip(padded[1:4], exact[1:4], strict=True):
            assert a.shape == (room,) and torch.equal(a[:n], b) and not a[n:].any()
    nothing = ops.march(origins, directions, *grid, step=0, capacity=0)
    assert nothing.t_starts.shape == (0,) and nothing.n_dropped == int((counts > 0).sum())


def test_max_samples_cuts_off_the_rest() -> None:
    origins, directions = rays(100)
    long = ops.march(origins, directions, *full_grid(1), max_samples=1024)
    short = ops.march(origins, directions, *full_grid(1), max_samples=100)
    assert torch.equal(short.packed_info[:, 1], long.packed_info[:, 1].clamp_max(100))
    for i in range(100):
        (a, n), (b, _) = short.packed_info[i].tolist(), long.packed_info[i].tolist()
        assert torch.equal(short.t_starts[a : a + n], long.t_starts[b : b + n])


@pytest.mark.parametrize("cone_angle", [0.0, CONE])
def test_far_keeps_the_samples_before_it(cone_angle: float) -> None:
    grid = ops.occupancy_bits(random_grid(2, 32), 0.5)
    origins, directions = rays(200, 2.0)
    settings = {"cone_angle": cone_angle, "near": 0.1, "step": 3, "max_samples": 100000}
    whole = ops.march(origins, directions, *grid, **settings)
    for far in (0.0, 0.7, 1.5):
        cut = ops.march(origins, directions, *grid, far=far, **settings)
        kept = whole.t_starts < far
        assert far == 0 or 0 < kept.float().mean() < 0.9
        assert torch.equal(cut.t_starts, whole.t_starts[kept]) and torch.equal(cut.t_ends, whole.t_ends[kept])
        assert torch.equal(cut.packed_info[:, 1], torch.bincount(whole.ray_indices[kept], minlength=200))


def test_jitter_is_uniform_and_named_by_seed_and_step() -> None:
    n = 4000
    origins = torch.tensor([[-1.0, 0.5, 0.5]]).expand(n, 3)
    directions = torch.tensor([[1.0, 0.0, 0.0]]).expand(n, 3)
    settings = {"max_samples": 1, "capacity": n}
    u = (ops.march(origins, directions, *full_grid(1), seed=4, step=9, **settings).t_starts - 1) / reference.BASE_STEP
    assert u.min() >= 0 and u.max() <= 1 + 1e-3
    counts = torch.histc(u, 20, 0, 1)
    chi_square = float(((counts - n / 20) ** 2 / (n / 20)).sum())
    assert chi_square < 19 + 4 * math.sqrt(2 * 19)  # mean and deviation of chi-square with 19 degrees of freedom
    for seed, step in ((5, 9), (4, 10)):
        other = ops.march(origins, directions, *full_grid(1), seed=seed, step=step, **settings).t_starts
        assert (other != 1 + u * reference.BASE_STEP).float().mean() > 0.9
    assert (ops.march(origins, directions, *full_grid(1), **settings).t_starts == 1).all()


def test_hopeless_rays_have_no_samples() -> None:
    nan, inf = torch.nan, torch.inf
    origins = torch.tensor([[0.5, 0.5, 0.5], [nan, 0.5, 0.5], [0.5, 0.5, 0.5], [-inf, 0.5, 0.5], [3, 3, 3]])
    directions = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, nan, 1], [1, 0, 0], [1, 0, 0]])
    samples = ops.march(origins, directions, *full_grid(2), cone_angle=CONE)
    assert samples.t_starts.shape == (0,)
    assert (samples.packed_info == 0).all()


def test_opcheck() -> None:
    grid = ops.occupancy_bits(random_grid(1, 16), 0.5)
    args = (*rays(5), *grid, 1.0, 0.0, 0.0, math.inf, 1024, 500, False, True, 0, 0)
    # the buffers past the counted samples are not initialised, so only the schema and the fakes are compared
    opcheck(torch.ops.neurfield.march.default, args, test_utils=("test_schema", "test_faketensor"))


def test_errors_say_expected_and_found() -> None:
    origins, directions = rays(4)
    with pytest.raises(ValueError, match=r"march: coarse must be uint8 \[1, 1\], got uint8 \[1, 2\]"):
        ops.march(origins, directions, full_grid(1)[0], torch.zeros(1, 2, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"march: expected step_scale > 0.*got 0"):
        ops.march(origins, directions, *full_grid(1), step_scale=0)
    with pytest.raises(TypeError, match=r"march: origins must be float32 \[n_rays, 3\], got float64 \[4, 3\]"):
        ops.march(origins.double(), directions, *full_grid(1))
