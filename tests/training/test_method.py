# SPDX-License-Identifier: Apache-2.0
"""Which preset is taken when none is named, and presets that change others."""

import dataclasses
from pathlib import Path

import pytest

from neurfield.errors import UserError
from neurfield.training.method import default_preset, load_method, presets
from neurfield.training.sampler import BaseSamplerConfig, OccGridConfig, SamplerConfig


def test_the_default_follows_device_and_budget() -> None:
    for device, seconds, expected in (
        ("cuda", None, "ngp"),
        ("cuda", 59.0, "ngp"),
        ("cuda", 60.0, "ngp-big"),
        ("cpu", None, "ngp-fast"),
        ("cpu", 119.0, "ngp-fast"),
        ("cpu", 120.0, "ngp-medium"),
    ):
        assert default_preset(device, seconds) == expected
        assert expected in presets()


def test_a_preset_or_a_file_differs_from_its_base_in_what_it_says(tmp_path: Path) -> None:
    still, moving = load_method("ngp-dynamic"), load_method("ngp-dynamic-cam")
    blocks = ("density_network", "color_network")
    plain = {name: {k: v for k, v in getattr(moving.field, name).items() if k != "modulation"} for name in blocks}
    assert dataclasses.replace(moving.field, **plain) == still.field
    assert dataclasses.replace(moving.optimizer, modulation_rate=still.optimizer.modulation_rate) == still.optimizer
    assert (moving.sampler, moving.loss, moving.training) == (still.sampler, still.loss, still.training)
    (tmp_path / "mine.yaml").write_text("base: ngp-dynamic\n")
    assert load_method(str(tmp_path / "mine.yaml")) == dataclasses.replace(still, name="mine")


def test_a_file_without_a_base_is_called_as_the_file(tmp_path: Path) -> None:
    for text, name in (("", "mine"), ("training: {n_samples: 4096}\n", "mine"), ("name: ours\n", "ours")):
        (tmp_path / "mine.yaml").write_text(text)
        assert load_method(str(tmp_path / "mine.yaml")).name == name


def test_another_sampler_keeps_what_the_preset_says_of_every_sampler() -> None:
    before = load_method("ngp-fast").sampler
    shared = {f.name: getattr(before, f.name) for f in dataclasses.fields(BaseSamplerConfig)}
    chosen = load_method("ngp-fast", ("sampler.otype=OccGridEstimator", "sampler.alpha_threshold=0.5")).sampler
    assert chosen == OccGridConfig(**shared, alpha_threshold=0.5) and shared["step_scale"] != OccGridConfig.step_scale
    assert load_method("ngp-fast", ("sampler.otype=OccGridEstimator", "sampler.otype=grid")).sampler == before
    assert load_method("ngp-fast", ("sampler={otype: grid}",)).sampler == SamplerConfig()  # a mapping says everything
    with pytest.raises(UserError, match=r"one of grid, OccGridEstimator, PropNetEstimator, did you mean 'OccGrid"):
        load_method("ngp-fast", ("sampler.otype=OccGridEstimater",))
