# SPDX-License-Identifier: Apache-2.0
"""`train --resume`: the same bits as without a break, the run's own way of reading the data, broken checkpoints."""

import json
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
import torch

from neurfield.cli.main import main
from neurfield.training import checkpoint
from neurfield.training.trainer import Trainer
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL

STEPS = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_synthetic(ball_scene(6, 1, 32), tmp_path / "ball")


def train(data: Path, output: Path, *words: object) -> int:
    given = ["train", data, "--output-dir", output, "--timestamp", "t", "--eval-split", "none", *words]
    return main([str(word) for word in given])


def started(data: Path, output: Path, *words: object) -> Path:
    """A new run of STEPS steps, or one to be continued."""
    budget = ("--max-num-iterations", STEPS)
    assert train(data, output, *budget, *words, "--set", *SMALL) in (0, 1)
    return output / "ball/ngp-fast/t/checkpoints"


def interrupt_after(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in step n."""
    step = Trainer.train_step

    def interrupted(self):
        if self.step == n - 1:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self)

    monkeypatch.setattr(Trainer, "train_step", interrupted)


def fails(capsys: pytest.CaptureFixture) -> str:
    error = capsys.readouterr().err
    assert error.startswith("neurfield: ") and error.count("\n") == 1, error
    return error


HOW = ("--downscale-factor", 2, "--scale", 0.3, "--seed", 7)


@pytest.mark.parametrize("asked", [(), HOW], ids=["flags left out", "flags repeated"])
def test_a_resumed_run_equals_one_without_a_break(data, tmp_path, monkeypatch, capsys, asked):
    whole = started(data, tmp_path / "whole", *HOW)
    with monkeypatch.context() as patch:
        interrupt_after(10, patch)
        halves = started(data, tmp_path / "halves", *HOW)
    assert [path.name for path in halves.iterdir()] == ["step-000000010.safetensors"]
    assert train(data, tmp_path / "halves", "--resume", *asked) == 0
    ours, theirs = (checkpoint.load(folder / "step-000000020.safetensors") for folder in (halves, whole))
    assert ours[0].keys() == theirs[0].keys()
    for name, value in theirs[0].items():
        assert torch.equal(ours[0][name], value), name
    assert ours[0]["cameras.sizes"].unique().tolist() == [16]
    for key in ("config", "scene", "normalization"):
        assert ours[1][key] == theirs[1][key]


def test_a_scene_file_that_changes_does_not_change_the_run(data, tmp_path, capsys):
    scene = tmp_path / "scene.yaml"
    scene.write_text("path: ball\nname: ball\ndownscale_factor: 2\n")
    folder = started(scene, tmp_path / "out")
    scene.write_text("path: ball\nname: ball\n")
    assert train(scene, tmp_path / "out", "--resume", "--max-num-iterations", 25) == 0
    tensors, header = checkpoint.load(folder / "step-000000025.safetensors")
    assert tensors["cameras.sizes"].unique().tolist() == [16] and header["config"]["load"]["downscale_factor"] == 2
    assert train(scene, tmp_path / "out", "--resume", "--max-num-iterations", 30, "--downscale-factor", 1) == 2
    assert "--downscale-factor 1: the run was trained with 2" in fails(capsys)
    scene.write_text("path: ball\nname: ball\ndownscale_factor: 4\n")
    assert train(scene, tmp_path / "out", "--resume", "--max-num-iterations", 30) == 0
    assert checkpoint.load_header(folder / "step-000000030.safetensors")["config"]["load"]["downscale_factor"] == 2


def test_a_flag_that_won_over_a_scene_file_need_not_be_given_again(data, tmp_path, capsys):
    scene = tmp_path / "scene.yaml"
    scene.write_text("path: ball\nname: ball\ndownscale_factor: 2\n")
    folder = started(scene, tmp_path / "out", "--downscale-factor", 1)
    assert train(scene, tmp_path / "out", "--resume", "--max-num-iterations", 25) == 0
    assert checkpoint.load_header(folder / "step-000000025.safetensors")["config"]["load"]["downscale_factor"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--downscale-factor", 4), "--downscale-factor 4: the run was trained with 1"),
        (("--scale", 0.2), "--scale 0.2: the run was trained with None"),
        (("--seed", 1), "--seed 1: the run has the seed 42"),
        (("--set", "loss.distortion=1"), "a resumed run keeps its configuration; leave --set out"),
    ],
)
def test_what_would_change_the_run_is_refused(data, tmp_path, words, message, capsys):
    folder = started(data, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    capsys.readouterr()
    assert train(data, tmp_path / "out", "--resume", "--max-num-iterations", 30, *words) == 2
    assert message in fails(capsys)
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file()} == before
    assert folder.is_dir()


def test_other_views_are_refused(data, tmp_path, capsys):
    started(data, tmp_path / "out")
    file = data / "transforms_train.json"
    content = json.loads(file.read_text())
    content["frames"].pop()
    file.write_text(json.dumps(content))
    assert train(data, tmp_path / "out", "--resume", "--max-num-iterations", 30) == 2
    assert "its 5 train views, or their map into unit space, are not those of" in fails(capsys)


def test_a_broken_newest_checkpoint_gives_way_to_the_one_before(data, tmp_path, capsys):
    folder = started(data, tmp_path / "out")
    assert train(data, tmp_path / "out", "--resume", "--max-num-iterations", 30) == 0
    broken = folder / "step-000000030.safetensors"
    broken.write_bytes(broken.read_bytes()[:-100])
    capsys.readouterr()
    assert train(data, tmp_path / "out", "--resume", "--max-num-iterations", 25) == 0
    out = capsys.readouterr().out
    assert "step-000000030.safetensors: not a whole neurfield checkpoint" in out
    assert "continuing from" in out and "25 steps" in out
    names = ["step-000000020.safetensors", "step-000000025.safetensors", "step-000000030.safetensors.aside"]
    assert sorted(path.name for path in folder.iterdir()) == names


def test_no_whole_checkpoint_is_one_line(data, tmp_path, capsys):
    folder = started(data, tmp_path / "out")
    (path,) = folder.iterdir()
    path.write_bytes(b"PK\x03\x04 pickles")
    capsys.readouterr()
    assert train(data, tmp_path / "out", "--resume") == 2
    assert "none of its checkpoints can be continued" in fails(capsys)
    assert [p.name for p in folder.iterdir()] == [path.name]


def test_the_newest_run_of_any_method_is_continued_unless_one_is_named(data: Path, tmp_path: Path, capsys) -> None:
    for method, stamp in (("ngp-fast", "1"), ("ngp-medium", "2")):
        words = ["--method", method, "--timestamp", stamp, "--max-num-iterations", 2]
        assert train(data, tmp_path, *words, "--set", *SMALL) == 0
    assert train(data, tmp_path, "--resume", "--timestamp", "2", "--max-num-iterations", 3) == 0
    assert train(data, tmp_path, "--resume", "--timestamp", "1", "--max-num-iterations", 4) == 0
    last = [
        [path.name for path in sorted((tmp_path / "ball" / run / "checkpoints").glob("*"))][-1]
        for run in ("ngp-fast/1", "ngp-medium/2")
    ]
    assert [name.split(".")[0] for name in last] == ["step-000000004", "step-000000003"]
    capsys.readouterr()
    assert train(data, tmp_path, "--resume", "--timestamp", "2", "--method", "ngp-fast") == 2
    assert "no run with a checkpoint to resume" in capsys.readouterr().err


def test_a_continued_run_says_that_its_budget_counts_what_came_before(data, tmp_path, capsys):
    started(data, tmp_path / "out")
    capsys.readouterr()
    assert train(data, tmp_path / "out", "--resume", "--max-seconds", 1e-3) == 0
    said = capsys.readouterr().out
    assert "0 s in all, of which " in said and "no step was taken; give a larger one" in said
    assert train(data, tmp_path / "out", "--resume", "--max-num-iterations", STEPS + 1) == 0
    assert "no step was taken" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["scene", "image"])
def test_an_interrupted_run_prints_the_command_that_goes_on(kind, tmp_path, monkeypatch, capsys):
    data = write_synthetic(ball_scene(6, 1, 32), tmp_path / "a ball")
    words = ["--output-dir", str(tmp_path / "my runs"), "--eval-split", "none", "--max-num-iterations", "9"]
    if kind == "image":
        data = next(data.glob("train/*.png"))
        words += ["--method", "image-cam"]
    else:
        words += ["--experiment-name", "it's", "--vis", "none", "--set", *SMALL]
    with monkeypatch.context() as patch:
        interrupt_after(4, patch)
        assert main(["train", str(data), *words]) == 1
    said = capsys.readouterr().out
    begun = said.partition("files in ")[2].splitlines()[0]
    (command,) = [line.partition("continue with: neurfield ")[2] for line in said.splitlines() if "continue" in line]
    assert main(["train", str(data), *words]) == 0  # a newer run, which is not the one to go on with
    capsys.readouterr()
    assert main(shlex.split(command)) == 0
    said = capsys.readouterr().out
    assert re.findall(r"^9 steps in .*; (.*)/checkpoints/", said, re.MULTILINE) == [begun] and "PSNR" not in said
