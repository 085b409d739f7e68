# SPDX-License-Identifier: Apache-2.0
import math

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import PackedSamples
from neurfield.reference import visible as reference
from tests.cases import SIZES, packed_samples, strided, uniform

STOP = 0.05
COUNTS = [0, 3, 1, 70, 0, 12, 5, 0]


def samples_of(counts: list[int], n_dropped: int = 0) -> tuple[PackedSamples, Tensor]:
    """Samples and densities: rays that end in nothing, empty ones, thin and opaque ones."""
    inputs = packed_samples(counts)
    n, info = sum(counts), inputs["packed_info"]
    samples = PackedSamples(
        info, torch.repeat_interleave(torch.arange(len(counts)), info[:, 1]), inputs["t_starts"], inputs["t_ends"],
        torch.tensor([n, n_dropped, n + 10 * n_dropped]),
    )  # fmt: skip
    sigmas = inputs["sigmas"] * torch.repeat_interleave(uniform(len(counts), high=40, seed=7).square() / 20, info[:, 1])
    return samples, sigmas * (uniform(n, seed=8) < 0.7)


def expected(samples: PackedSamples, sigmas: Tensor, stop: float, capacity: int) -> PackedSamples:
    """The reference, in which no transmittance is so near the limit, or to 0, that a rounding of float32 decides."""
    t_starts, t_ends, info, sigma = (
        samples.t_starts.double(),
        samples.t_ends.double(),
        samples.packed_info,
        sigmas.double(),
    )
    for start, count in info.tolist():
        ray = slice(start, start + count)
        depth = sigma[ray] * (t_ends - t_starts)[ray]
        light = torch.exp(-depth.cumsum(0))  # 70 factors, each off by 4 roundings
        assert ((light / stop - 1).abs() > 1e-5).all() if stop else ((depth < 10) & (light > 1e-30)).all()
    found = PackedSamples(*reference.visible_samples(sigma, t_starts, t_ends, info, samples.counts, stop, capacity))
    return found._replace(t_starts=found.t_starts.float(), t_ends=found.t_ends.float())


def assert_same(a: PackedSamples, b: PackedSamples) -> None:
    for name, x, y in zip(PackedSamples._fields, a, b, strict=True):
        assert x.dtype == y.dtype and torch.equal(x, y), name


@pytest.mark.parametrize("n_rays", SIZES)
@pytest.mark.parametrize("stop", [STOP, 1e-4, 0.0])
def test_matches_reference(n_rays: int, stop: float) -> None:
    samples, sigmas = samples_of([(7 * i) % 23 for i in range(n_rays)])
    sigmas *= 1 if stop else 0.1
    found = ops.visible_samples(samples, sigmas, stop)
    n = len(found.t_starts)
    assert_same(found, expected(samples, sigmas, stop, n))
    assert_same(ops.visible_samples(samples, sigmas, stop, n + 5), expected(samples, sigmas, stop, n + 5))
    if n_rays > 200:
        assert 0.3 * len(sigmas) < n < 0.97 * len(sigmas)


def test_a_capacity_that_ends_at_any_place() -> None:
    samples, sigmas = samples_of(COUNTS, n_dropped=4)
    wanted = len(ops.visible_samples(samples, sigmas, STOP).t_starts)
    dropped = set()
    for capacity in range(wanted + 3):
        found = ops.visible_samples(samples, sigmas, STOP, capacity)
        assert_same(found, expected(samples, sigmas, STOP, capacity))
        dropped.add(found.n_dropped)
    assert dropped >= {4, 5, 8}


def test_what_is_left_out_changes_no_image() -> None:
    samples, sigmas = samples_of([40] * 100)
    kept = ops.visible_samples(samples, sigmas, STOP)
    rows = [
        start + i for (start, _), n in zip(samples.packed_info, kept.packed_info[:, 1], strict=True) for i in range(n)
    ]
    assert 0 < len(rows) < 0.8 * len(sigmas)
    rgbs = uniform(len(sigmas), 3, seed=3)
    whole = ops.composite(sigmas, rgbs, samples.t_starts, samples.t_ends, samples.packed_info, early_stop_eps=STOP)
    part = ops.composite(
        sigmas[rows], rgbs[rows], kept.t_starts, kept.t_ends, kept.packed_info, early_stop_eps=STOP
    )  # fmt: skip
    for name in ("rgb", "depth", "acc"):
        assert torch.equal(getattr(whole, name), getattr(part, name)), name
    assert torch.equal(whole.weights[rows], part.weights)
    assert float(whole.weights.sum() - part.weights.sum()) == pytest.approx(0, abs=1e-3)


def test_the_samples_of_a_padded_march() -> None:
    """Rows behind the samples belong to no ray, whatever density a field has there."""
    grid = ops.occupancy_bits(torch.ones(1, 8**3), 0.5)
    origins, directions = uniform(50, 3), torch.nn.functional.normalize(uniform(50, 3, low=-1, seed=1), dim=1)
    exact = ops.march(origins, directions, *grid, step_scale=20.0)
    n = len(exact.t_starts)
    sigmas = uniform(n, high=60, seed=2)
    padded = ops.march(origins, directions, *grid, step_scale=20.0, capacity=n + 100, padded=True)
    for behind in (math.nan, math.inf, 0.0):
        found = ops.visible_samples(padded, torch.cat([sigmas, torch.full((100,), behind)]), STOP, n)
        assert_same(found, ops.visible_samples(exact, sigmas, STOP, n))
    fewer = ops.march(origins, directions, *grid, step_scale=20.0, capacity=n // 2, padded=True)
    found = ops.visible_samples(fewer, sigmas[: n // 2], STOP, n)
    assert found.n_dropped == fewer.n_dropped > 0 and int(found.counts[2]) == n


def test_densities_that_are_no_number() -> None:
    """They are kept, with all that follows them; behind the place where a ray is opaque there is none."""
    samples, _ = samples_of([10, 10, 10, 10])
    sigmas = torch.zeros(40)
    sigmas[4] = math.nan  # the first ray: all is kept
    sigmas[12], sigmas[15] = math.inf, math.nan  # the second ends at its third sample
    sigmas[22] = -1.0  # no weight
    found = ops.visible_samples(samples, sigmas, STOP)
    assert found.packed_info.tolist() == [[0, 10], [10, 3], [13, 0], [13, 0]]
    assert ops.visible_samples(samples, sigmas, 0.0).packed_info[:, 1].tolist() == [10, 10, 0, 0]


def test_the_sample_that_makes_a_ray_opaque_is_kept() -> None:
    samples, _ = samples_of([100])
    for last in range(100):
        sigmas = torch.ones(100)
        sigmas[last] = 1e6
        assert ops.visible_samples(samples, sigmas, 1e-4).counts.tolist() == [last + 1, 0, 100]


def test_strides_and_threads() -> None:
    samples, sigmas = samples_of([(7 * i) % 23 for i in range(1000)])
    info, _, t_starts, t_ends, counts = samples
    wide = PackedSamples(strided(info), samples.ray_indices, strided(t_starts), strided(t_ends), strided(counts))
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(ops.visible_samples(wide, strided(sigmas), STOP, 5000))
    finally:
        torch.set_num_threads(before)
    for result in results:
        assert_same(result, ops.visible_samples(samples, sigmas, STOP, 5000))


def test_operator() -> None:
    samples, sigmas = samples_of(COUNTS)
    arguments = (sigmas, samples.t_starts, samples.t_ends, samples.packed_info, samples.counts, STOP, 50)
    operator = torch.ops.neurfield.visible_samples.default
    opcheck(operator, arguments, test_utils=("test_schema", "test_faketensor"))
    outputs = operator(*arguments)
    assert [(x.dtype, list(x.shape)) for x in outputs] == [
        (torch.int64, [8, 2]), (torch.int64, [50]), (torch.float32, [50]), (torch.float32, [50]), (torch.int64, [3]),
    ]  # fmt: skip
    assert not any(x.requires_grad for x in ops.visible_samples(samples, sigmas.requires_grad_(), STOP, 50))


def test_refuses_what_does_not_fit() -> None:
    samples, sigmas = samples_of([3, 4])
    with pytest.raises(
        TypeError, match=r"^visible_samples: sigmas must be float32 \[n_samples\], got float64 \[7\]; use .float\(\)$"
    ):
        ops.visible_samples(samples, sigmas.double(), STOP)
    with pytest.raises(
        ValueError, match=r"^visible_samples: sigmas must be float32 \[n_samples\], got float32 \[7, 1\]$"
    ):
        ops.visible_samples(samples, sigmas[:, None], STOP)
    with pytest.raises(ValueError, match=r"^visible_samples: t_starts must be float32 \[6\], got float32 \[7\]$"):
        ops.visible_samples(samples, sigmas[1:], STOP)
    with pytest.raises(
        TypeError, match=r"^visible_samples: packed_info must be int64 \[n_rays, 2\], got int32 \[2, 2\]$"
    ):
        ops.visible_samples(samples._replace(packed_info=samples.packed_info.int()), sigmas, STOP)
    with pytest.raises(ValueError, match=r"^visible_samples: counts must be int64 \[3\], got int64 \[2\]$"):
        ops.visible_samples(samples._replace(counts=samples.counts[:2]), sigmas, STOP)
    for stop in (-0.1, 1.0, math.nan):
        with pytest.raises(ValueError, match=rf"^visible_samples: stop_transmittance must be in \[0, 1\), got {stop}$"):
            ops.visible_samples(samples, sigmas, stop)
    with pytest.raises(ValueError, match=r"^visible_samples: capacity must be at least 0, got -1$"):
        ops.visible_samples(samples, sigmas, STOP, -1)
    for start, count in ((4, 4), (-1, 2), (2, -1), (8, 0)):
        info = torch.tensor([[0, 3], [start, count]])
        message = rf"^visible_samples: packed_info\[1\] is \(start {start}, count {count}\), outside the 7 samples$"
        with pytest.raises(ValueError, match=message):
            ops.visible_samples(samples._replace(packed_info=info), sigmas, STOP)
