# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.ops import FusedMarch
from neurfield.ops.march import PackedSamples
from neurfield.rendering.volume import MarchOptions, march_rays, sample_positions
from tests.ops.test_kilo_render import CONFIG, SCALE, Composed, cells, grid, parameters, rays

STOP = 0.05


def visible(n: int, march: FusedMarch, params: Tensor | None = None) -> PackedSamples:
    occupancy, params = grid(), parameters() if params is None else params
    return ops.kilo_visible(params, cells(), CONFIG, SCALE, occupancy.bitfield, occupancy.coarse, *rays(n), march)


def expected(n: int, options: MarchOptions, jitter: tuple[int, int] | None) -> tuple[PackedSamples, Tensor, Tensor]:
    """All samples, their opacities, and the light that reaches each, sample by sample in float64."""
    origins, directions = rays(n)
    samples = march_rays(grid(), origins, directions, options, jitter)
    sigma, _ = Composed()(*sample_positions(samples, origins, directions))
    alpha = -torch.expm1(-(sigma * (samples.t_ends - samples.t_starts)).double())
    light = torch.empty_like(alpha)
    for start, count in samples.packed_info.tolist():
        after = (1 - alpha[start : start + count]).cumprod(0)
        light[start : start + count] = torch.cat([after.new_ones(1), after])[:count]
    return samples, alpha, light


@pytest.mark.parametrize("n", [0, 1, 33, 5000])
@pytest.mark.parametrize("jitter", [None, (5, 6)])
def test_keeps_what_has_weight_up_to_where_a_ray_is_opaque(n: int, jitter: tuple[int, int] | None) -> None:
    options = MarchOptions(near=0.0, step_scale=2, stop_transmittance=STOP)
    found = visible(n, options.fused(jitter))
    samples, alpha, light = expected(n, options, jitter)
    # densities near 0 and transmittances near the limit may fall on either side: z and the products are rounded
    certain = ((alpha == 0) | (alpha > 1e-4)) & ((light - STOP).abs() > 1e-4)
    is_kept = (alpha > 0) & (light >= STOP)
    ray, t = samples.ray_indices, samples.t_starts
    have = set(zip(found.ray_indices.tolist(), found.t_starts.tolist(), strict=True))
    for places, wanted in ((certain & is_kept, True), (certain & ~is_kept, False)):
        pairs = zip(ray[places].tolist(), t[places].tolist(), strict=True)
        assert all((pair in have) == wanted for pair in pairs)
    assert have <= set(zip(ray.tolist(), t.tolist(), strict=True))
    assert int((~certain).sum()) <= 0.01 * max(len(certain), 100)
    starts, counts = found.packed_info.unbind(1)
    assert torch.equal(starts, counts.cumsum(0) - counts) and found.counts.tolist() == [len(have), 0, len(have)]
    assert torch.equal(found.ray_indices, torch.arange(n).repeat_interleave(counts))
    same_ray = found.ray_indices.diff() == 0
    assert (found.t_starts.diff()[same_ray] > 0).all() and (found.t_ends > found.t_starts).all()
    if n > 1000:
        assert 0 < len(have) < 0.7 * len(ray)


def test_samples_beyond_the_guess_find_room() -> None:
    fog = parameters() * 0
    CONFIG.parts(fog)["b_sigma"].fill_(1e-6)
    march = MarchOptions(near=0.0).fused()
    found = visible(50, march, fog)
    samples = march_rays(grid(), *rays(50), MarchOptions(near=0.0))
    network, _ = ops.kilo_locate(sample_positions(samples, *rays(50))[0], cells())
    assert len(found.t_starts) == int((network >= 0).sum()) > 8 * 50


def test_a_density_that_is_no_number_is_kept_and_ends_its_ray() -> None:
    params = parameters()
    CONFIG.parts(params)["b_sigma"].fill_(float("nan"))
    found = visible(200, MarchOptions(near=0.0).fused(), params)
    assert set(found.packed_info[:, 1].tolist()) == {0, 1}


def test_max_samples_and_threads() -> None:
    march = FusedMarch(max_samples=7)
    before, results = torch.get_num_threads(), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        results.append(visible(9000, march))
    torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))
    assert int(results[0].packed_info[:, 1].max()) <= 7 and len(visible(9000, FusedMarch())[1]) > len(results[0][1])


@pytest.mark.parametrize("room", [1.5, 0.6, 0.0])
def test_a_capacity_keeps_the_leading_rays(room: float) -> None:
    march, occupancy = FusedMarch(), grid()
    whole = visible(3000, march)
    capacity = int(room * len(whole.t_starts))
    found = ops.kilo_visible(
        parameters(), cells(), CONFIG, SCALE, occupancy.bitfield, occupancy.coarse, *rays(3000), march, capacity
    )
    counts = whole.packed_info[:, 1]
    fits = counts.cumsum(0) <= capacity
    n = int(counts[fits].sum())
    assert found.counts.tolist() == [n, int(((counts > 0) & ~fits).sum()), len(whole.t_starts)]
    assert torch.equal(found.packed_info[:, 1], counts * fits)
    for name in ("ray_indices", "t_starts", "t_ends"):
        buffer = getattr(found, name)
        assert buffer.shape == (capacity,) and torch.equal(buffer[:n], getattr(whole, name)[:n])
        assert (buffer[n:] == 0).all()


def test_operator() -> None:
    origins, directions = rays(9)
    occupancy, march = grid(), FusedMarch()
    arguments = (
        parameters(), cells().cells, origins, directions, occupancy.bitfield, occupancy.coarse, [16, 4, 2],
        cells().box, SCALE, march.values, [], 500, True,
    )  # fmt: skip
    opcheck(torch.ops.neurfield.kilo_visible.default, arguments, test_utils=("test_schema", "test_faketensor"))


def test_refuses_what_does_not_fit() -> None:
    occupancy, march = grid(), FusedMarch()
    arguments = (parameters(), cells(), CONFIG, SCALE, occupancy.bitfield, occupancy.coarse, *rays(4))
    with pytest.raises(TypeError, match=r"kilo_visible: params must be float32 \[n_networks, \d+\], got float64"):
        ops.kilo_visible(arguments[0].double(), *arguments[1:], march)
    with pytest.raises(ValueError, match=r"kilo_visible: directions must be float32 \[4, 3\], got float32 \[3, 3\]"):
        ops.kilo_visible(*arguments[:7], arguments[7][1:], march)
    with pytest.raises(ValueError, match="kilo_visible: a cell names a network beyond those that params holds"):
        visible(300, march, parameters()[:2])
    with pytest.raises(ValueError, match="kilo_visible: capacity must be at least 0, got -1"):
        ops.kilo_visible(*arguments, march, -1)
