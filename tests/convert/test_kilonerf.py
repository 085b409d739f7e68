# SPDX-License-Identifier: Apache-2.0
"""From a small teacher to tiny networks: the plan, what is learned, continuation, the small file, bad input."""

import dataclasses
import os
import signal

import pytest
import torch

import neurfield.run
from neurfield import ops
from neurfield.cli.main import main
from neurfield.convert import CONVERTERS
from neurfield.convert.cells import plan_cells
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.occupied import Voxels, grid_of, occupied_voxels
from neurfield.convert.request import Request
from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.run import load
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training import checkpoint
from neurfield.training.resume import newest_whole
from neurfield.training.run_folder import RunFolder
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL

QUICK = (
    "field.longest=3",
    "field.width=16",
    "field.position_frequencies=4",
    "distill.iterations=600",
    "distill.learning_rate=0.005",
    "distill.n_samples=4096",
    "training.n_samples=4096",
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_synthetic(ball_scene(), tmp_path_factory.mktemp("ball") / "data")


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    scene = neurfield.load_scene(data)
    return neurfield.run.train(scene, "ngp-fast", max_num_iterations=150, overrides=SMALL, output_dir=folder)


def request(output, *overrides: str, **options) -> Request:
    return Request(output, overrides=(*QUICK, *overrides), **{"max_num_iterations": 10, **options})


def test_student_comes_close_to_its_teacher(teacher, tmp_path):
    lines = []
    made = to_kilonerf(teacher, request(tmp_path / "kilo", max_num_iterations=60, report=lines.append))
    before, after = teacher.evaluate()["psnr"], made.evaluate()["psnr"]
    assert after > before - 3 and after > 22, (before, after)
    assert "networks of" in lines[0] and "MB in fp16" in lines[0]
    assert "met no training ray" in lines[-1]
    again = load(tmp_path / "kilo")
    assert torch.equal(again.field.params, made.field.params) and again.config.method.field.n_networks > 0
    assert not (tmp_path / "kilo.distill").exists()
    small = tmp_path / "small.safetensors"
    assert main(["convert", str(tmp_path / "kilo"), "--to", "half", "--output", str(small)]) == 0
    assert abs(load(small).evaluate(data=teacher.config.data)["psnr"] - after) < 0.05
    kept, whole = checkpoint.load(small)[0], checkpoint.load(made.path)[0]
    assert kept["field.params"].dtype == torch.float16
    assert not any(name.startswith("optimizer") for name in kept) and len(kept) < len(whole)


def test_interrupted_and_continued_equals_straight_through(teacher, tmp_path):
    straight = to_kilonerf(teacher, request(tmp_path / "a", "distill.iterations=30"))

    def stop(stage: str, part: float, text: str) -> None:
        if stage == "distil" and part > 0.5:
            os.kill(os.getpid(), signal.SIGTERM)

    assert to_kilonerf(teacher, request(tmp_path / "b", "distill.iterations=30", progress=stop)) is None
    assert (tmp_path / "b.distill").exists()
    with pytest.raises(UserError, match="a conversion exists there; continue it with --resume"):
        to_kilonerf(teacher, request(tmp_path / "b"))
    continued = to_kilonerf(teacher, request(tmp_path / "b", "distill.iterations=30", resume=True))
    assert torch.equal(straight.field.params, continued.field.params)


def test_occupancy_is_the_teachers(teacher):
    def density(x):
        return 100 * ((x - 0.5).norm(dim=1) < 0.25).float()

    voxels, largest = occupied_voxels(OccupancyGrid(1, resolution=32), density, 10.0)
    middle = voxels.low + voxels.width[:, None] / 2
    assert (largest == 100).all() and ((middle - 0.5).norm(dim=1) < 0.25 + 1 / 32).all()
    volume = len(voxels) / 32**3
    assert 4.19 * 0.25**3 < volume < 4.19 * (0.25 + 1.73 / 32) ** 3
    grid = grid_of(voxels, largest, OccupancyGrid(1, resolution=32))
    assert abs(grid.occupied_fraction() - volume) < 1e-6
    again, _ = occupied_voxels(grid, density, 10.0)
    assert torch.equal(again.index, voxels.index) and torch.equal(again.low, voxels.low)


def test_voxels_of_outer_cascades_count_outside_of_the_inner_ones():
    voxels, _ = occupied_voxels(OccupancyGrid(4, resolution=16), lambda x: torch.ones(len(x)), 0.5)
    assert abs(float((voxels.width.double() ** 3).sum()) - 4.0**3) < 1e-6  # they fill the box once


def test_cells_cover_the_voxels_and_their_parts_fill_them():
    low = torch.rand(500, 3, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.5, 0.3, 0.11]) + 0.2
    voxels = Voxels(torch.arange(500), low, torch.full((500,), 1 / 64))
    plan = plan_cells(KiloNerfConfig(longest=7), voxels)
    assert max(plan.config.cells) == 7 and plan.config.cells[0] == 7
    sides = torch.tensor(plan.config.box[3:]) - torch.tensor(plan.config.box[:3])
    assert torch.allclose(sides / torch.tensor(plan.config.cells), sides[0] / 7)  # cubic
    volume = (plan.high - plan.low).double().prod(dim=1)
    assert abs(float(volume.sum()) - 500 / 64**3) < 1e-8
    field = plan.config.build(())
    field.cells.copy_(plan.cells)
    owner = torch.repeat_interleave(torch.arange(plan.config.n_networks), plan.starts.diff())
    network, local = ops.kilo_locate((plan.low + plan.high) / 2, field.grid())
    assert torch.equal(network.long(), owner) and (local.abs() < 1).all()
    assert int((plan.cells >= 0).sum()) == plan.config.n_networks == len(owner.unique())


def test_bad_input_is_one_line(teacher, tmp_path, monkeypatch, capsys):
    with pytest.raises(UserError, match="the teacher is empty everywhere"):
        to_kilonerf(teacher, request(tmp_path / "x", "distill.density_threshold=1e9"))
    monkeypatch.setattr("neurfield.convert.cells.available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"field.longest 3: \d+ networks need .* while they are trained, only 0.0 MiB"):
        to_kilonerf(teacher, request(tmp_path / "x"))
    with pytest.raises(UserError, match="--method ngp: its field is grid, expected kilonerf"):
        to_kilonerf(teacher, Request(tmp_path / "x", method="ngp"))
    with pytest.raises(UserError, match="a kilonerf field is made from a teacher"):
        KiloNerfConfig().build(())
    with pytest.raises(UserError, match="networks do not fit a grid"):
        dataclasses.replace(KiloNerfConfig(), box=(0.0,) * 6, cells=(2, 2, 2), n_networks=9).build(())
    assert main(["convert", str(teacher.path), "--to", "half", "--output", str(tmp_path / "x.bin")]) == 2
    assert "expected the name of a .safetensors file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_train_makes_teacher_and_student_in_one_command(data, tmp_path, capsys):
    words = ["--max-num-iterations", "30", "--timestamp", "t", "--output-dir", str(tmp_path), "--set", *QUICK]
    short = ("distill.teacher=ngp-fast", "distill.iterations=30")
    assert main(["train", str(data), "--method", "kilonerf", *words, *short]) == 0
    assert "test: PSNR" in capsys.readouterr().out
    assert load(tmp_path / "data" / "kilonerf" / "t").config.method.field.otype == "kilonerf"
    assert load(tmp_path / "data" / "ngp-fast" / "t").config.method.field.otype == "grid"


def test_a_file_that_promises_too_much_is_refused_before_anything_is_allocated(teacher, tmp_path, monkeypatch):
    made = to_kilonerf(teacher, request(tmp_path / "kilo", "distill.iterations=2", max_num_iterations=1))
    tensors, header = checkpoint.load(made.path)
    field = header["config"]["method"]["field"]
    monkeypatch.setattr(KiloNerfConfig, "build", lambda *_: pytest.fail("allocated"))
    for change in ({"n_networks": 1 << 24, "cells": [256, 256, 256]}, {"cells": [1, 1, 27]}, {"width": 64}):
        path = tmp_path / "bad" / "checkpoints" / "step-000000001.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        changed = {**header["config"], "method": {**header["config"]["method"], "field": {**field, **change}}}
        checkpoint.save(path, tensors, {**header, "config": changed})
        with pytest.raises(UserError, match=r"field.\w+: expected \[.*\] as its configuration says, got \["):
            load(path)
        with pytest.raises(UserError, match="none of its checkpoints is whole"):
            newest_whole(RunFolder(tmp_path / "bad"), lambda line: None)


def test_names_of_conversions_come_from_the_registry(monkeypatch, capsys):
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "|".join(CONVERTERS) in text
    monkeypatch.setitem(CONVERTERS, "mirror", CONVERTERS["half"])
    assert main(["convert", "nowhere", "--to", "miror", "--output", "x"]) == 2
    assert "unknown conversion 'miror', did you mean 'mirror'?" in capsys.readouterr().err
