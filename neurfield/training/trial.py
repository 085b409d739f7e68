# SPDX-License-Identifier: Apache-2.0
"""Short trainings on a signal on a grid that tell which of several methods will learn it best.

What comes out of a training depends more on the number of its steps than on that of its samples: a trial takes up to
four fifths of the training's steps, of a 64th of their samples (but of 64 at least, and of fewer steps then), with the
learning rate's whole schedule. A tenth of the samples is kept from it and measured.
"""

import dataclasses
import math
import time

import torch
from torch import Tensor

from neurfield.data.signals.grid import GridSignal
from neurfield.errors import MachineError
from neurfield.fields.signal_field import grid_positions
from neurfield.metrics.psnr import decibels
from neurfield.training.grid_task import GridTask
from neurfield.training.method import Device
from neurfield.training.schedule import Budget
from neurfield.training.signal_method import SignalMethod, SignalRunConfig
from neurfield.training.trainer import Trainer

PART = 80  # of a training's samples, or of its seconds, goes into one trial
BATCH_PART, MIN_BATCH = 64, 64  # smaller steps take no less time
MIN_STEPS = 50  # with fewer the lowest frequencies win whatever the signal is
N_SEEN, MEASURED, N_MEASURED = 1 << 22, 0.1, 1 << 16  # samples that trials choose from, and what of them is measured
SPLIT_SEED = 1


class Trials:
    """Trials of equal steps from equal samples.

    Args:
        signal: all samples.
        budget: of the training that they are for. Of one in seconds the first trial takes a part, and its number of
            steps is that of all.
        n_samples: of a step of that training.
        seed: of the training.
        known: flat indices int64 `[n]`, ascending, that training may see; None: all.
        device: where trials train.

    Attributes:
        steps: of a trial; None before the first, where the budget is in seconds only.
        longest: seconds of the longest trial.
    """

    def __init__(
        self,
        signal: GridSignal,
        budget: Budget,
        n_samples: int,
        seed: int,
        known: Tensor | None = None,
        device: Device = "cpu",
    ):
        self.signal, self.seed, self.device, self.longest = signal, seed, device, 0.0
        n_all = signal.info.n_samples if known is None else len(known)
        generator, n = torch.Generator().manual_seed(SPLIT_SEED), min(n_all, N_SEEN)
        offsets = torch.rand(n, generator=generator, dtype=torch.float64)
        index = ((torch.arange(n, dtype=torch.float64) + offsets) * (n_all / n)).long().clamp_(max=n_all - 1)
        index = (index if known is None else known[index]).unique()
        is_measured = torch.zeros(len(index), dtype=torch.bool)
        chosen = torch.randperm(len(index), generator=generator)
        is_measured[chosen[: min(math.ceil(MEASURED * len(index)), N_MEASURED)]] = True
        self._trained, self._measured = index[~is_measured], index[is_measured]
        n_samples = min(n_samples, n_all)
        self.batch = max(n_samples // BATCH_PART, MIN_BATCH)
        self.steps = None
        if budget.max_num_iterations is not None:
            self.steps = math.ceil(budget.max_num_iterations * n_samples / (PART * self.batch))
        self._seconds = None if budget.max_seconds is None else budget.max_seconds / PART

    @property
    def are_telling(self) -> bool:
        """Whether there are steps enough to tell something; True before that is known."""
        return self.steps is None or self.steps >= MIN_STEPS

    def psnr(self, method: SignalMethod) -> float:
        """In dB, of what the method makes of samples that it has not seen; -inf where it gives no numbers."""
        start = time.monotonic()
        training = dataclasses.replace(method.training, n_samples=self.batch)
        config = SignalRunConfig(
            method=dataclasses.replace(method, training=training), seed=self.seed, kind=method.kind, device=self.device,
            max_seconds=self._seconds, max_num_iterations=self.steps,
        )  # fmt: skip
        trainer = Trainer(GridTask(self.signal, config, self._trained), config)
        try:
            while trainer.progress < 1:  # not `train`, which would take Ctrl-C for the end of the trial
                trainer.train_step()
        except MachineError:
            return -math.inf
        finally:
            self.longest = max(self.longest, time.monotonic() - start)
        if self._seconds is not None:  # of the first trial that comes to its end: all have as many steps
            self.steps, self._seconds = trainer.step, None
        return self._measure(trainer)

    @torch.no_grad()
    def _measure(self, trainer: Trainer) -> float:
        values = trainer.task.field(grid_positions(self._measured, self.signal.info.sizes)).clamp(0, 1)
        rows = self.signal.rows()[self._measured.numpy()]
        error = float((values - torch.from_numpy(self.signal.normalized(rows))).double().square().mean())
        return decibels(error) if math.isfinite(error) else -math.inf
