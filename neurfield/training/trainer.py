# SPDX-License-Identifier: Apache-2.0
"""The training loop: one for all tasks and methods.

It holds what they share: budget and clock, learning rate, optimiser, average, the guard against NaN, and a state that
can be kept and continued. All randomness is a function of (seed, step), so a run that is continued from a checkpoint
equals one that was never interrupted.
"""

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.metrics.psnr import decibels
from neurfield.stop_signals import REPEATED, stop_signals
from neurfield.training.ema import Ema
from neurfield.training.guard import NonFiniteGuard
from neurfield.training.method import BaseRunConfig
from neurfield.training.optimizer import Adam
from neurfield.training.schedule import Clock, learning_rate_factor
from neurfield.training.task import Task


@dataclass(frozen=True)
class StepReport:
    """What an observer of the training sees after a step; `psnr` is NaN where it means nothing, `n_rays` 0."""

    step: int
    progress: float
    seconds: float
    loss: float
    psnr: float
    learning_rate: float
    n_rays: int
    n_samples: int


class Trainer:
    """Trains the field of a task.

    Args:
        task: what is to be learned, e.g. RadianceTask(scene, config).
        config: how; see BaseRunConfig.
        start: time.monotonic() from which the seconds of the budget count; None: now.
        report: takes a line for the user (skipped steps, roll-backs).

    Attributes:
        task, optimizer, ema: the state that a checkpoint keeps.
        step: steps done.
        interrupted: whether a signal has asked the last `train` to end.
    """

    def __init__(
        self,
        task: Task,
        config: BaseRunConfig,
        start: float | None = None,
        report: Callable[[str], None] = lambda line: None,
    ):
        method = config.method
        self.task, self.config, self.budget = task, config, config.budget
        self.optimizer = Adam(task.field, method.optimizer)
        self.ema = Ema(task.field, method.training.ema_decay) if method.training.ema_decay > 0 else None
        self.step = 0
        self.clock = Clock(time.monotonic() if start is None else start)
        self.interrupted = False
        self._ended = threading.Event()
        self._take_step = task.start(self.optimizer)
        self._guard = NonFiniteGuard(self.tensors, self._restore_good, report)
        self._good: tuple[int, dict[str, Tensor]] | None = None

    @property
    def progress(self) -> float:
        """Used part of the budget, 0 ... 1."""
        return self.budget.progress(self.clock.seconds(), self.step)

    def train(self, on_step: Callable[[StepReport], None] | None = None) -> None:
        """Steps until the budget is used, or until `end` or a stop signal, which stop after the step in progress.

        Raises:
            MachineError: training gives NaN or Inf and cannot recover.
        """
        self.interrupted = False
        with _stop_signals(self._interrupt):
            while self.progress < 1 and not self.is_ending:
                report = self.train_step()
                if on_step:
                    on_step(report)

    @property
    def is_ending(self) -> bool:
        """Whether the step in progress is the last one, whatever the budget says: nobody may wait for another."""
        return self.interrupted or self._ended.is_set()

    def _interrupt(self) -> None:
        self.interrupted = True

    def end(self) -> None:
        """Ends `train` after the step in progress as if the budget were used; may be called from any thread."""
        self._ended.set()

    def train_step(self) -> StepReport:
        """One step, whatever the budget says."""
        optimizer, training = self.config.method.optimizer, self.config.method.training
        step, progress = self.step, self.progress
        rate = optimizer.learning_rate * learning_rate_factor(
            progress, optimizer.decay_start, optimizer.final_fraction, optimizer.decay_stages
        )
        result = self._take_step(step, rate, progress)
        finite = self._guard.check(step, result.loss)
        if self.ema and finite and step % training.ema_interval == 0:
            self.ema.update(self.task.field)
        self.step += 1
        error = result.squared_error
        psnr = decibels(error) if finite and error == error else math.nan
        return StepReport(
            self.step, progress, self.clock.seconds(), result.loss, psnr, rate, result.n_rays, result.n_samples
        )

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes while training, by name; the tensors themselves, not copies."""
        state = {f"field.{name}": value for name, value in self.task.field.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in self.optimizer.tensors().items()}
        state |= self.task.tensors()
        if self.ema:
            state |= {f"ema.{name}": value for name, value in self.ema.tensors().items()}
        return state

    def counters(self) -> dict[str, Any]:
        """The rest of the state: plain values."""
        return {
            "step": self.step,
            "seconds": self.clock.seconds(),
            "optimizer_step": self.optimizer.step_count,
            "ema_updates": self.ema.n_updates if self.ema else 0,
            **self.task.counters(),
        }

    def load(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Continues from a state that `tensors` and `counters` gave.

        Raises:
            UserError: the state is of another method or other data.
        """
        self._copy(tensors)
        self.step = counters["step"]
        self.clock.earlier = counters["seconds"]
        self.optimizer.step_count = counters["optimizer_step"]
        if self.ema:
            self.ema.n_updates = counters["ema_updates"]
        self.task.restore(counters)

    def remember(self) -> None:
        """Marks the present state as good, to be restored when training diverges."""
        self._good = (self.step, {name: value.clone() for name, value in self.tensors().items()})

    def _restore_good(self) -> int | None:
        if self._good is None:
            return None
        step, tensors = self._good
        self._copy(tensors)
        return step

    def _copy(self, tensors: dict[str, Tensor]) -> None:
        own = self.tensors()
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            raise UserError("the checkpoint is of another method or scene; train a new run")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])
        field = self.task.field
        field.load_state_dict(field.state_dict())  # lets modules refresh what they derive from parameters
        self.task.refresh()


@contextlib.contextmanager
def _stop_signals(on_stop: Callable[[], None]) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP calls `on_stop`; a second one acts as usual, but a second SIGHUP does
    nothing, then and afterwards. Only the main thread catches any.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    kinds = stop_signals()
    old = {kind: signal.getsignal(kind) for kind in kinds}

    def stop(kind: int, frame: object) -> None:
        on_stop()
        if kind == REPEATED:
            old[signal.Signals(kind)] = signal.SIG_IGN
        signal.signal(kind, old[signal.Signals(kind)])

    for kind in kinds:
        signal.signal(kind, stop)
    try:
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, old[kind])
