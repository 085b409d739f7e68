# SPDX-License-Identifier: Apache-2.0
"""A training beside a viewer: takes turns, pauses without losing time, ends, saves."""

import os
import signal
import threading
import time

import pytest

from neurfield.viewer import Live
from tests.scenes import ball_scene, radiance_trainer
from tests.training.test_trainer import small_config


@pytest.fixture
def training():
    trainer = radiance_trainer(ball_scene(8, 1, 24), small_config(steps=1_000_000))
    saved: list[int] = []
    live = Live(trainer, lambda: saved.append(trainer.step))

    def train() -> None:
        with live:
            trainer.train(live.on_step)

    thread = threading.Thread(target=train)
    thread.start()
    yield live, saved
    live.stop()
    thread.join(10)
    assert not thread.is_alive()


def until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_pictures_get_their_turn_between_steps(training):
    live, _ = training
    until(lambda: live.last is not None)
    for _ in range(5):
        step = live.trainer.step
        with live.turns:
            held = live.trainer.step
            time.sleep(0.05)
            assert live.trainer.step == held
        assert held >= step


def test_a_pause_is_no_training_time(training):
    live, saved = training
    until(lambda: live.last is not None and live.last.step > 3)
    assert live.is_training()
    live.pause()
    time.sleep(0.2)
    step = live.trainer.step
    with live.turns:  # free for pictures
        pass
    seconds = live.last.seconds
    live.save()
    until(lambda: saved == [step])
    time.sleep(0.5)
    assert live.trainer.step == step and live.is_paused and not live.is_training()
    live.resume()
    until(lambda: live.trainer.step > step + 1)
    assert live.last.seconds - seconds < 0.6  # of 0.7 s at least that were paused


def test_ends_early_as_if_the_budget_were_used(training):
    live, _ = training
    until(lambda: live.last is not None and live.last.step > 30)
    live.stop()
    until(lambda: live.has_ended)
    assert not live.trainer.interrupted
    assert len(live.curve.points) >= 2 and live.curve.points[0][0] == 10


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_paused_training(kind, heard):
    trainer = radiance_trainer(ball_scene(8, 1, 24), small_config(steps=1_000_000))
    live = Live(trainer)
    rescue = threading.Timer(10, live.stop)

    def on_step(report):
        if report.step == 3:
            live.pause()
            threading.Timer(0.3, os.kill, (os.getpid(), kind)).start()
            rescue.start()
        live.on_step(report)

    with live:
        trainer.train(on_step)
    assert trainer.interrupted and trainer.step == 3 and rescue.is_alive()
    rescue.cancel()


def test_the_curve_stays_short(training):
    live, _ = training
    live.stop()
    until(lambda: live.has_ended)
    import dataclasses

    report = dataclasses.replace(live.last, psnr=20.0)
    for step in range(0, 50_000, 10):
        live._note(dataclasses.replace(report, step=step))
    assert len(live.curve.points) <= 2000
