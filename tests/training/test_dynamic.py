# SPDX-License-Identifier: Apache-2.0
"""A ball that moves, one photo of each moment: learned, kept, continued, and not taken for one that rests."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import neurfield
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.training import composed_step as steps
from neurfield.training.density import density_over_time, make_density
from neurfield.training.method import RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from tests.scenes import MOVING_RADIUS, ball_scene, moving_middle, moving_scene, radiance_trainer
from tests.training.test_trainer import SMALL

# the scene has a ball of half a unit and pictures of 32 pixels
SMALL_DYNAMIC = (
    *(word for word in SMALL if "field" in word or "step_scale" in word), "training.n_samples=4096",
    "field.motion_encoding.n_levels=3", "field.motion_encoding.log2_hashmap_size=12",
    "field.motion_encoding.base_resolution=4", "field.motion_resolution=16", "field.time_scale=0.25",
)  # fmt: skip
STEPS = 400


def config(*overrides: str, steps: int = STEPS, method: str = "ngp-dynamic") -> RunConfig:
    return RunConfig(method=load_method(method, (*SMALL_DYNAMIC, *overrides)), max_num_iterations=steps)


@pytest.fixture(scope="module")
def moving() -> neurfield.Run:
    """Trained on the moving ball by the method that is the default for it."""
    return neurfield.train(moving_scene(), overrides=SMALL_DYNAMIC, max_num_iterations=STEPS)


def test_moments_that_no_photo_shows_are_learned(moving: neurfield.Run) -> None:
    assert moving.config.method.name == "ngp-dynamic" and moving.is_dynamic and moving.n_appearances == 0
    lines: list[str] = []
    still = neurfield.train(moving_scene(), "ngp-fast", overrides=SMALL, max_num_iterations=STEPS, report=lines.append)
    assert lines == ["note: the views are of 24 times, which method ngp-fast learns as if nothing moved"]
    assert moving.evaluate()["psnr"] > still.evaluate()["psnr"] + 4


def test_the_grid_has_the_whole_way_of_the_ball(moving: neurfield.Run) -> None:
    norm = moving.views.normalization
    for time in np.linspace(0, 1, 9):
        middle = norm.to_unit(torch.tensor([moving_middle(float(time))]))
        assert not moving.grid.cropped(lambda x, m=middle: (x - m).norm(dim=1) < 0.02).bitfield.any().logical_not()
    # and little else: the ball and its way are a cylinder with rounded ends
    volume = (np.pi * MOVING_RADIUS**2 * 1.4 + 4 / 3 * np.pi * MOVING_RADIUS**3) * norm.scale**3
    assert moving.grid.occupied_fraction() < 2.5 * volume


@torch.no_grad()
def test_density_is_there_when_the_ball_is(moving: neurfield.Run) -> None:
    norm = moving.views.normalization
    for time in (0.0, 1.0):
        here, there = (norm.to_unit(torch.tensor([moving_middle(t)])) for t in (time, 1 - time))
        at = moving.at(time)
        assert float(at.field.density(here)[0]) > 20 > float(at.field.density(there)[0])
    assert torch.equal(make_density(moving.field)(here), moving.at(0.0).field.density(here)[0])


def test_looks_at_random_times_are_the_same_again(moving: neurfield.Run) -> None:
    x = torch.full((500, 3), 0.5)
    first, again = (density_over_time(moving.field, 3, 7)(x) for _ in range(2))
    assert torch.equal(first, again) and first.unique().numel() > 100
    assert not torch.equal(first, density_over_time(moving.field, 3, 8)(x))


def test_rows_of_conditions_belong_to_rows_of_positions(moving: neurfield.Run) -> None:
    x, d = torch.rand(40, 3), torch.nn.functional.normalize(torch.randn(40, 3), dim=1)
    times = torch.linspace(0, 1, 40)
    sigma, rgb = moving.field(x, d, Conditions(times))
    for i in (0, 17, 39):
        own = moving.field.at(Conditions(times[i : i + 1]))(x[i : i + 1], d[i : i + 1])
        torch.testing.assert_close(own[0], sigma[i : i + 1])
        torch.testing.assert_close(own[1], rgb[i : i + 1])


def test_a_renderer_draws_each_camera_at_its_time(moving: neurfield.Run) -> None:
    camera = moving.cameras[0]
    pictures = [
        moving.render(dataclasses.replace(camera, times=torch.tensor([time])), ("rgb",))["rgb"] for time in (0.0, 1.0)
    ]
    assert (pictures[0] - pictures[1]).abs().max() > 0.3
    bound = moving.at(1.0)
    assert not bound.is_dynamic and torch.equal(bound.render(camera, ("rgb",))["rgb"], pictures[1])


def test_a_run_is_kept_and_continued_exactly(tmp_path: Path) -> None:
    scene, lines = moving_scene(), list[str]()
    # a rate that does not know the budget, so that the shorter run is the beginning of the longer
    kept = {"overrides": (*SMALL_DYNAMIC, "optimizer.decay_start=1"), "method": "ngp-dynamic"}
    whole = neurfield.train(scene, max_num_iterations=40, output_dir=tmp_path / "whole", **kept)
    half = neurfield.train(scene, max_num_iterations=24, output_dir=tmp_path / "half", **kept)
    assert half.path is not None
    again = neurfield.train(scene, max_num_iterations=40, resume=half.path.parents[1], report=lines.append)
    assert again.step == 40 and not lines
    for (name, a), (_, b) in zip(whole.field.state_dict().items(), again.field.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    assert again.path is not None
    loaded = neurfield.load(again.path)
    assert torch.equal(loaded.render(loaded.cameras[3])["rgb"], again.render(again.cameras[3])["rgb"])


def test_both_steps_learn_the_same() -> None:
    """The step with a capacity, which CUDA runs, and the one without, on rays of different times."""
    losses = []
    for make in (steps.composed_step, steps.capacity_step):
        trainer = radiance_trainer(moving_scene(8), config("training.n_samples=65536"))
        task = trainer.task
        assert isinstance(task, RadianceTask)
        task.n_rays = 128  # all of whose samples find room
        step = make(task.field, task.grid, trainer.optimizer, task.march, task.config.method, 42)
        batch = task._batch(0, 0.0)
        assert batch.conditions.times is not None and batch.conditions.times.unique().numel() == 8
        results = [step(batch, 0.01, number) for number in (0, 1, 2)]
        losses.append([result.loss for result in results if result.loss == result.loss])
    composed, late = losses  # the latter come two steps later
    assert late[-1] == pytest.approx(composed[0], rel=1e-4)


def test_time_grids_of_the_networks_learn() -> None:
    trainer = radiance_trainer(moving_scene(8), config(steps=3, method="ngp-dynamic-cam"))
    trainer.train()
    values = [value for name, value in trainer.task.field.named_parameters() if "modulation" in name]
    assert len(values) == 2 and all(value.shape == (5, 2) and value.abs().sum() > 0 for value in values)


def test_what_cannot_be_is_said() -> None:
    with pytest.raises(UserError, match="ball: the dynamic field of method ngp-dynamic needs views of different times"):
        neurfield.train(ball_scene(4), "ngp-dynamic", max_num_iterations=1)
    with pytest.raises(UserError, match=r"modulation: expected Position or Time"):
        bad = "field.density_network.modulation={resolution: [5, 3], coordinates: Direction}"
        neurfield.train(moving_scene(4), "ngp-dynamic", overrides=(bad,), max_num_iterations=1)
    with pytest.raises(UserError, match=r"expected one axis for the time, got 2"):
        bad = "field.density_network.modulation={resolution: [5, 3], coordinates: Time}"
        neurfield.train(moving_scene(4), "ngp-dynamic", overrides=(bad,), max_num_iterations=1)
    with pytest.raises(UserError, match=r"modulation: expected Position in 3 dimensions, got Time in 1"):
        bad = "field.density_network.modulation={resolution: [5], coordinates: Time}"
        neurfield.train(ball_scene(4), "ngp-fast", overrides=(bad,), max_num_iterations=1)


def test_questions_that_a_run_cannot_answer(moving: neurfield.Run) -> None:
    with pytest.raises(UserError, match=r"time 1.5: expected 0 ... 1"):
        moving.at(1.5)
    with pytest.raises(UserError, match=r"appearance 0: the field of this run .ngp-dynamic. has one look"):
        moving.at(appearance=0)
