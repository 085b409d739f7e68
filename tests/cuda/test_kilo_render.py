# SPDX-License-Identifier: Apache-2.0
"""The renderer of tiny networks on CUDA: what it leaves out, where a ray ends, and its neighbours; on the host, too."""

from collections.abc import Callable

import pytest
import torch

from neurfield import ops
from neurfield.ops import FusedImage, FusedMarch
from tests.ops.test_kilo_render import CONFIG, SCALE, cells, grid, parameters, rays

Render = Callable[..., FusedImage]


def render_on(place: torch.device | str) -> Render:
    def render(n: int, march: FusedMarch, skip_weight: float, params: torch.Tensor | None = None, part=slice(None)):
        occupancy, made = grid(), cells()
        tensors = (t.to(place) for t in (occupancy.bitfield, occupancy.coarse, *(x[part] for x in rays(n))))
        made = ops.KiloCells(made.cells.to(place), made.low, made.scale)
        params = (parameters() if params is None else params).to(place)
        image = ops.kilo_render(params, made, CONFIG, SCALE, *tensors, march, skip_weight)
        return FusedImage(*(x.cpu() for x in image))

    return render


def check_against_the_cpu(render: Render) -> None:
    for march in (FusedMarch(step_scale=2.0), FusedMarch(cone_angle=1 / 256, max_samples=40, stop_transmittance=0.1)):
        expected, actual = render_on("cpu")(600, march, 0.0), render(600, march, 0.0)
        # a ray ends, and has its median, at a sample that the roundings of tests/cuda/cases.py may shift
        same = (actual.median_depth == expected.median_depth) & ((actual.acc - expected.acc).abs() < 1e-4)
        assert same.float().mean() > 0.98 and actual.median_depth.isfinite().any()
        assert ((actual.rgb - expected.rgb).abs().amax(dim=1) < 2e-4)[same].all()


def check_what_is_left_out(render: Render) -> None:
    march = FusedMarch(step_scale=2.0)
    whole = render(600, march, 0.0)
    for skip_weight in (0.01, 1.0):
        skipped = render(600, march, skip_weight)
        assert torch.equal(whole.acc, skipped.acc) and torch.equal(whole.depth, skipped.depth)
        lost = whole.rgb - skipped.rgb
        # up to 1024 rounded terms below 1
        assert (lost >= -(2**-14)).all() and 0 < float(lost.max()) <= 1 / 512 + 2**-14


def check_a_ray_on_its_own(render: Render) -> None:
    """Rays of three blocks, and a part of them in other blocks and tiles."""
    march, part = FusedMarch(step_scale=2.0), slice(37, 1100, 3)
    whole, some = render(1200, march, 0.0), render(1200, march, 0.0, part=part)
    assert all(torch.equal(a[part], b) for a, b in zip(whole, some, strict=True))


def check_nan(render: Render) -> None:
    params = parameters()
    CONFIG.parts(params)["b_sigma"].fill_(torch.nan)
    march = FusedMarch(step_scale=2.0)
    expected, actual = render_on("cpu")(200, march, 3e-4, params), render(200, march, 3e-4, params)
    for got, want in zip(actual, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=0, equal_nan=True)


CHECKS = pytest.mark.parametrize(
    "check", [check_against_the_cpu, check_what_is_left_out, check_a_ray_on_its_own, check_nan]
)


@CHECKS
def test_on_the_host(kernels_on_host, check: Callable[[Render], None]) -> None:
    def render(*arguments, **options):
        with kernels_on_host:
            return render_on("cpu")(*arguments, **options)

    check_on_cpu = render_on("cpu")
    assert check_on_cpu(0, FusedMarch(), 0.0).acc.shape == render(0, FusedMarch(), 0.0).acc.shape == (0,)
    check(render)


@pytest.mark.cuda
@CHECKS
def test_on_the_device(device: torch.device, check: Callable[[Render], None]) -> None:
    check(render_on(device))


@pytest.mark.cuda
def test_places_in_cells_and_their_gradients_do_not_wait(device: torch.device) -> None:
    made = cells()
    made, x = ops.KiloCells(made.cells.to(device), made.low, made.scale), torch.rand(100, 3, device=device)
    expected = torch.tensor(made.scale, device=device).mul(2).expand_as(x)
    upstream = torch.ones_like(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        _, local = ops.kilo_locate(x.requires_grad_(), made)
        (slopes,) = torch.autograd.grad(local, x, upstream)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(slopes, expected)
