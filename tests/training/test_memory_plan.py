# SPDX-License-Identifier: Apache-2.0
"""The memory plan counts what a training really holds, without holding it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurfield.data import load
from neurfield.data.load import decode, read_manifest
from neurfield.data.views import View
from neurfield.training.memory import n_bytes
from neurfield.training.memory_plan import plan_training
from neurfield.training.method import load_method
from tests.scenes import ball_scene, radiance_trainer, write_synthetic
from tests.training.test_trainer import small_config


@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_images_and_state_are_those_of_the_trainer(ema: float, tmp_path: Path) -> None:
    manifest = read_manifest(write_synthetic(ball_scene(4, 2, 24), tmp_path / "ball"))
    config = small_config(f"training.ema_decay={ema}")
    train, test = manifest.only(("train",)), manifest.only(("test",))
    plan = plan_training(train, test, config.method)
    trainer = radiance_trainer(decode(train), config)
    assert plan["images"] == n_bytes([trainer.task.pixels.values]) == 4 * 24 * 24 * 4
    assert plan["parameters"] == n_bytes(trainer.task.field.parameters())
    assert plan["parameters"] + plan["optimiser and occupancy"] == n_bytes(trainer.tensors().values())
    assert plan["last good state"] == n_bytes(trainer.tensors().values())
    assert plan["images to measure"] >= 2 * 24 * 24 * 4
    assert "images to measure" not in plan_training(train, None, config.method)


@pytest.mark.parametrize(("weight", "held"), [(0.0, 0), (0.1, 4 * 24 * 24 * 4)])
def test_one_map_of_depth_makes_room_for_those_of_all_views(weight: float, held: int, tmp_path: Path) -> None:
    folder = write_synthetic(ball_scene(4, 0, 24), tmp_path / "ball")
    np.save(folder / "depth.npy", np.full((24, 24), 2000.0, np.float32))
    file = folder / "transforms_train.json"
    content = json.loads(file.read_text())
    content["frames"][1]["depth_file_path"] = "depth.npy"
    file.write_text(json.dumps(content))
    manifest = read_manifest(folder, splits=("train",))
    config = small_config(f"loss.depth={weight}")
    pixels = radiance_trainer(decode(manifest), config).task.pixels
    parts = [pixels.values] if pixels.depths is None else [pixels.values, pixels.depths]
    plan = plan_training(manifest, None, config.method)
    assert plan["images"] == n_bytes(parts) == 4 * 24 * 24 * 4 + held


def test_what_is_held_beside_the_images_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "n_threads", lambda: 1)  # few images are decoded at once
    manifest = read_manifest(write_synthetic(ball_scene(8, 0, 24), tmp_path / "ball"), splits=("train",))
    method, images = small_config().method, 8 * 24 * 24 * 4

    def planned(**changes: Any) -> int:
        return plan_training(dataclasses.replace(manifest, **changes), None, method)["reading them"]

    def each(**changes: Any) -> list[View]:
        return [dataclasses.replace(view, **changes) for view in manifest.views]

    assert planned() < images
    assert planned(splits={"train": [1, 0, *range(2, 8)]}) == images  # they are copied
    assert planned(views=each(depth=tmp_path / "of each")) == images  # float32 as well, each is packed
    assert planned(views=each(depth=tmp_path / "of each", mask=tmp_path / "and its mask")) == images + images // 4
    linear = dataclasses.replace(manifest.views[0].header, is_float=True)
    assert planned(views=each(header=linear)) == 2 * 4 * images
    assert planned(views=each(path=None, pixels=np.zeros((24, 24, 4), np.uint8))) == images


def test_every_kind_of_field_is_planned_without_being_made(tmp_path: Path) -> None:
    manifest = read_manifest(write_synthetic(ball_scene(4, 2, 24), tmp_path / "ball"))
    method = load_method("nerf", ("field.width=32", "field.n_layers=2"))
    parameters = n_bytes(method.field.build((0, 0, 0, 1, 1, 1)).parameters())
    assert plan_training(manifest.only(("train",)), None, method)["parameters"] == parameters
