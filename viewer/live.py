# SPDX-License-Identifier: Apache-2.0
"""A training that pages watch: it and their pictures take turns, and pages may pause, end and save it.

The training holds the turn from its first step to its last and lets others go first between two steps.
"""

import math
import threading
import time
from collections.abc import Callable
from types import TracebackType

from neurfield.training.trainer import StepReport, Trainer
from neurfield.viewer.shown import Curve
from neurfield.viewer.turns import Turns

_MAX_POINTS = 2000  # of the curve; when there are more, every other one is dropped
_SMOOTHING = 0.05


class Live:
    """Use as a context manager around the training, with `on_step` called after each step.

    Args:
        trainer: about to be trained.
        save: writes a checkpoint; called between two steps.
    """

    def __init__(self, trainer: Trainer, save: Callable[[], object] = lambda: None) -> None:
        self.trainer, self.turns = trainer, Turns()
        self._save = save
        self._go = threading.Event()
        self._go.set()
        self._save_asked = threading.Event()
        self._running = False
        self._label, self._value = Curve().label, math.nan
        self._points: list[tuple[int, float]] = []
        self._every = 10  # steps between points
        self.last: StepReport | None = None
        self.n_saved = 0

    def __enter__(self) -> "Live":
        self.turns.__enter__()
        self._running = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running = False
        self.turns.__exit__()

    @property
    def curve(self) -> Curve:
        """Steps and the PSNR of their batches, or the loss where that means nothing, smoothed."""
        return Curve(self._label, tuple(self._points))

    @property
    def is_paused(self) -> bool:
        return not self._go.is_set()

    @property
    def has_ended(self) -> bool:
        return self.last is not None and not self._running

    def is_training(self) -> bool:
        """Whether steps are being taken at this moment."""
        return self._running and self._go.is_set()

    def pause(self) -> None:
        self._go.clear()

    def resume(self) -> None:
        self._go.set()

    def stop(self) -> None:
        """Ends the training after its present step, as if its budget were used."""
        self.trainer.end()
        self._go.set()

    def save(self) -> None:
        """Asks for a checkpoint after the present step; at once while it is paused."""
        self._save_asked.set()

    def on_step(self, report: StepReport) -> None:
        """After a step: lets pages in, and waits while it is paused, which does not count as training time.

        Ctrl-C, SIGTERM and SIGHUP end the pause, too.
        """
        self.last = report
        self._note(report)
        self._save_if_asked()
        self.turns.pass_on()
        if not self._go.is_set():
            since = time.monotonic()
            self.turns.__exit__()
            while not self._go.wait(0.1) and not self.trainer.is_ending:
                self._save_if_asked()
            self.turns.__enter__()
            self.trainer.clock.pause(since)

    def _save_if_asked(self) -> None:
        if self._save_asked.is_set():
            self._save_asked.clear()
            self._save()
            self.n_saved += 1

    def _note(self, report: StepReport) -> None:
        if not math.isfinite(report.loss):
            return
        value = report.psnr
        if math.isnan(value):
            self._label, value = "loss", report.loss
        self._value = value if math.isnan(self._value) else self._value + _SMOOTHING * (value - self._value)
        if report.step % self._every == 0:
            self._points.append((report.step, self._value))
            if len(self._points) > _MAX_POINTS:
                self._points, self._every = self._points[1::2], 2 * self._every
