# SPDX-License-Identifier: Apache-2.0
"""Short trainings that tell which method will learn a signal best."""

import dataclasses
import math

import pytest
import torch

from neurfield.data.signals.grid import GridSignal, grid_signal
from neurfield.training import trial
from neurfield.training.schedule import Budget
from neurfield.training.signal_method import SignalMethod, load_signal_method
from neurfield.training.trial import Trials
from tests.signals.files import picture

SMALL = ("field.network.n_neurons=32", "field.network.n_hidden_layers=2")
STEPS = Budget(max_num_iterations=400)


def method(*more: str) -> SignalMethod:
    return load_signal_method("image-siren", "image", (*SMALL, *more))


@pytest.fixture
def signal() -> GridSignal:
    return grid_signal(picture(48, 64), "p", name="p", suffix=".png")


@pytest.mark.parametrize("known", [None, torch.arange(0, 48 * 64, 2)])
def test_what_is_measured_has_not_been_seen(signal, known):
    trials = Trials(signal, STEPS, 4096, 1, known)
    seen, measured = set(trials._trained.tolist()), set(trials._measured.tolist())
    allowed = set(range(48 * 64)) if known is None else set(known.tolist())
    assert not seen & measured and seen | measured == allowed
    assert len(measured) == math.ceil(0.1 * len(allowed))
    assert torch.equal(trials._trained, trials._trained.sort().values)  # as GridTask wants it


def test_of_large_signals_a_part_is_enough(signal, monkeypatch):
    monkeypatch.setattr(trial, "N_SEEN", 500)
    monkeypatch.setattr(trial, "N_MEASURED", 20)
    trials = Trials(signal, STEPS, 4096, 1)
    assert len(trials._measured) == 20 and 470 < len(trials._trained) <= 480  # parts share the samples at their borders
    assert int(trials._trained[-1]) > 3000  # of all of it


@pytest.mark.parametrize(
    ("n_samples", "side", "batch", "steps"), [(65536, 512, 1024, 320), (65536, 64, 64, 320), (2048, 512, 64, 160)]
)
def test_a_trial_takes_an_eightieth_of_the_samples(n_samples, side, batch, steps):
    """400 steps, of at most all samples."""
    trials = Trials(grid_signal(picture(side, side), "p", name="p", suffix=".png"), STEPS, n_samples, 1)
    assert (trials.batch, trials.steps) == (batch, steps)
    assert batch * steps * 80 == 400 * min(n_samples, side * side)


def test_the_better_method_wins_and_trials_repeat(signal):
    trials = Trials(signal, Budget(max_num_iterations=800), 4096, 1)
    good, bad = method(), method("optimizer.learning_rate=1e-7")
    scores = [trials.psnr(m) for m in (good, bad, good)]
    assert scores[0] == scores[2] > scores[1] + 3
    assert trials.longest > 0 and trials.are_telling


def test_of_seconds_the_first_trial_makes_the_steps_of_all(signal):
    trials = Trials(signal, Budget(max_seconds=16), 4096, 1)
    assert trials.steps is None and trials.are_telling  # not known yet
    trials.psnr(method())
    assert trials.steps >= 1 and trials._seconds is None
    steps = trials.steps
    trials.psnr(method("field.network.n_neurons=64"))
    assert trials.steps == steps
    both = Trials(signal, Budget(max_seconds=1e6, max_num_iterations=20), 4096, 1)
    assert not both.are_telling  # 12 steps
    both.psnr(method())
    assert both.steps == 12


def test_trials_train_where_they_are_told_to(signal, monkeypatch):
    devices, make = [], trial.GridTask

    def task(signal, config, known):
        devices.append(config.device)
        return make(signal, dataclasses.replace(config, device="cpu"), known)

    monkeypatch.setattr(trial, "GridTask", task)
    Trials(signal, Budget(max_num_iterations=20), 4096, 1, None, "cuda").psnr(method())
    assert devices == ["cuda"]


def test_a_method_that_gives_no_numbers_is_the_worst(signal):
    trials = Trials(signal, STEPS, 4096, 1)
    broken = method()
    broken = dataclasses.replace(broken, optimizer=dataclasses.replace(broken.optimizer, learning_rate=1e30))
    assert trials.psnr(broken) == -math.inf
    timed = Trials(signal, Budget(max_seconds=16), 4096, 1)
    assert timed.psnr(broken) == -math.inf
    assert timed.steps is None and timed.are_telling  # what breaks off does not say how many steps the others have
