# SPDX-License-Identifier: Apache-2.0
"""The average of parameters: its formula, and that everything but training uses it."""

import json

import pytest
import torch
from torch import nn

from neurfield import run as runs
from neurfield.cli.main import main
from neurfield.training.ema import Ema
from neurfield.training.evaluation import evaluate
from neurfield.training.view_set import ViewSet
from tests.compare import assert_close
from tests.scenes import ball_scene, radiance_trainer, write_synthetic
from tests.training.test_trainer import SMALL, small_config

AVERAGED = ("training.ema_decay=0.9", "training.ema_interval=1")


@pytest.mark.parametrize("decay", [0.5, 0.95, 0.9999])
def test_average_is_the_debiased_one(decay):
    """tiny-cuda-nn's recurrence, which sums up to weights d^(n-k) (1 - d) / (1 - d^n) of the k-th of n values."""
    values = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    field = nn.Linear(7, 1, bias=False)
    ema = Ema(field, decay)
    expected = torch.zeros(7, dtype=torch.float64)
    for n in range(1, 21):
        with torch.no_grad():
            field.weight.copy_(values[n - 1])
        ema.update(field)
        past = decay * (1 - decay ** (n - 1))
        expected = (expected * past + values[n - 1].double() * (1 - decay)) / (1 - decay**n)
        # a lerp of float32 rounds three times, and the average carries on at most 20 such errors
        assert_close(ema.tensors()["weight"][0], expected, roundings=3 * 20, scale=float(values.abs().max()))
    weights = decay ** torch.arange(19, -1, -1, dtype=torch.float64) * (1 - decay) / (1 - decay**20)
    assert_close(expected, weights @ values.double(), roundings=1000, scale=float(values.abs().max()))
    assert ema.n_updates == 20


def test_a_trained_run_is_its_average():
    scene = ball_scene()
    trainer = radiance_trainer(scene, small_config(*AVERAGED, steps=30))
    trainer.train()
    run = runs.from_task(trainer.task, trainer, ViewSet.of_scene(scene), scene=scene)
    for name, value in run.field.named_parameters():
        assert torch.equal(value, trainer.ema.tensors()[name])
        assert not torch.equal(value, trainer.task.field.get_parameter(name))
    raw = evaluate(trainer.task.renderer, scene, "test")["psnr"]
    trainer.task.field.load_state_dict(trainer.task.field.state_dict() | trainer.ema.tensors())
    assert run.evaluate("test")["psnr"] == evaluate(trainer.task.renderer, scene, "test")["psnr"] != raw


def test_evaluations_while_training_use_the_average(tmp_path, capsys):
    """The last one on the way sees the parameters of the one at the end, and of a later eval."""
    data = write_synthetic(ball_scene(), tmp_path / "ball")
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "6", "--timestamp", "t"]
    assert main([*words, "--seconds-per-eval", "1e-6", "--set", *SMALL, *AVERAGED]) == 0
    folder = tmp_path / "ball/ngp-fast/t"
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    *_, on_the_way, at_the_end = [line["test/psnr"] for line in lines if "test/psnr" in line]
    assert on_the_way == at_the_end
    capsys.readouterr()
    assert main(["eval", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] == at_the_end
