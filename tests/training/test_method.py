# SPDX-License-Identifier: Apache-2.0
"""Which preset is taken when none is named, and presets that change others."""

import dataclasses
from pathlib import Path

from neurfield.training.method import default_preset, load_method, presets


def test_the_default_follows_device_and_budget() -> None:
    for device, seconds, expected in (
        ("cuda", 600.0, "ngp"),
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
