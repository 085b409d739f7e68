# SPDX-License-Identifier: Apache-2.0
import dataclasses

import pytest
import torch

from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerf, KiloNerfConfig
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.composed_step import RayBatch, composed_step
from neurfield.training.method import load_method
from neurfield.training.optimizer import Adam
from tests.cases import uniform, unit_vectors


def field():
    config = KiloNerfConfig(width=16, box=(0.0, 0.0, 0.0, 0.5, 1.0, 1.0), cells=(1, 2, 2), n_networks=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        made = config.build(())
    made.cells.copy_(torch.tensor([0, 1, -1, 2], dtype=torch.int32).view(2, 2, 1))
    return made


def test_networks_start_alike_and_empty_cells_are_empty() -> None:
    made = field()
    assert torch.equal(made.params[0], made.params[2]) and made.params.abs().max() <= 1
    x = torch.tensor([[0.2, 0.2, 0.2], [0.2, 0.2, 0.8], [0.7, 0.2, 0.2]])
    with torch.no_grad():
        made.params[:, :] = 0
        made.network.parts(made.params.data)["b_sigma"].fill_(2)
    sigma, rgb = made(x, unit_vectors(3))
    assert sigma.tolist() == [300.0, 0.0, 0.0]
    assert torch.equal(rgb[0], torch.full((3,), 0.5)) and not rgb[1:].any()
    assert torch.equal(made.density(x)[0], sigma)


def test_penalty_is_the_norm_of_what_depends_on_the_direction() -> None:
    made = field()
    parts = made.network.parts(made.params.detach())
    values = torch.cat([parts[name].flatten(1) for name in ("w3", "b3", "w_rgb", "b_rgb")], dim=1)
    made.params.grad = torch.zeros_like(made.params)
    assert made.penalise_view_dependence(2.0) == 0 and not made.params.grad.any()  # nothing has met anything
    made.params.grad[1] = 1
    assert torch.allclose(made.penalise_view_dependence(2.0), 2 * values[1].norm())
    grads = made.network.parts(made.params.grad)
    for name, part in parts.items():
        depends = name in ("w3", "b3", "w_rgb", "b_rgb")
        expected = 1 + depends * 2 * part[1] / values[1].norm()
        assert torch.allclose(grads[name][1], expected) and not grads[name][0].any()
    made.params.data[1] = 0
    made.penalise_view_dependence(2.0)
    assert made.params.grad.isfinite().all()


def test_gradients_reach_positions_and_parameters() -> None:
    made = field()
    x = uniform(50, 3, low=0.05, high=0.45).requires_grad_()
    sigma, rgb = made(x, unit_vectors(50))
    (sigma.sum() + rgb.sum()).backward()
    assert x.grad.any() and made.params.grad[0].any() and not made.params.grad[2].any()


def fine_tuned(*overrides: str) -> torch.Tensor:
    """Parameters after ten steps of the preset on rays through the first cell; behind it lies an empty one."""
    made, method, grid = field(), load_method("kilonerf", overrides), OccupancyGrid(1, resolution=16)
    made.network.parts(made.params.data)["b_sigma"].fill_(0.1)  # so that there is something to be seen
    n = 64
    origins = uniform(n, 3, low=0.1, high=0.4, seed=4)
    origins[:, 2] = -0.5
    origins[:, 1] += 0.05
    directions = torch.tensor([0.0, 0.0, 1.0]).repeat(n, 1)
    march = MarchOptions.for_box(1, 4.0)
    step = composed_step(made, grid, Adam(made, method.optimizer), march, method, seed=1)
    batch = RayBatch(origins, directions, uniform(n, 3, seed=5), torch.zeros(n, 3))
    for number in range(10):
        assert step(batch, 1e-3, number).n_samples > 0
    return made.params.detach()


def test_networks_that_no_ray_meets_keep_every_bit() -> None:
    start, trained, free = field().params.detach(), fine_tuned(), fine_tuned("loss.view_dependence=0")
    b_sigma = field().network.parts(torch.arange(start.shape[1]).view(1, -1))["b_sigma"].item()
    start[:, b_sigma] = 0.1
    assert torch.equal(trained[1:], start[1:])
    assert not torch.equal(trained[0], start[0])
    assert not torch.equal(trained[0], free[0])  # the penalty does act on what rays meet


def test_samples_found_in_native_code_teach_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    linear = "optimizer.epsilon=1"  # Adam without its division, which would make roundings of small gradients large
    start, fused = field().params.detach(), fine_tuned(linear)
    monkeypatch.setattr(KiloNerf, "fused_visible", lambda self: None)
    change, wanted = fused - start, fine_tuned(linear) - start
    assert wanted[0].any() and (change - wanted).abs().max() < 1e-3 * wanted.abs().max()


def test_configurations_that_make_no_sense_are_refused_in_one_line() -> None:
    with pytest.raises(UserError, match=r"field.width: expected one of 16, 32, 48, 64, got '24'"):
        load_method("kilonerf", ("field.width=24",))
    good = field().config
    inf, nan = float("inf"), float("nan")
    for box in ((0, 0, 0, 0, 1, 1), (0, 0, 0, 1, -1, 1), (-inf, 0, 0, 1, 1, 1), (0, 0, nan, 1, 1, 1)):
        with pytest.raises(UserError, match=r"expected field.box with low corner below high corner, finite, got \["):
            dataclasses.replace(good, box=box).build(())
