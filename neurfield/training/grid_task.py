# SPDX-License-Identifier: Apache-2.0
"""Learning a signal on a grid: an image, a video or a volume."""

import numpy as np
import torch
from torch import Tensor

from neurfield.data.signals.grid import GridSignal
from neurfield.fields.signal_field import grid_field, grid_positions
from neurfield.training.optimizer import Adam
from neurfield.training.signal_method import SignalRunConfig
from neurfield.training.signal_step import make_step, step_generator
from neurfield.training.task import NoState, StepFn


class GridTask(NoState):
    """A GridSignal, to be learned by a SignalField.

    A step takes samples that are random within equal parts of the array, in its order: as even as possible, and kind to
    the caches and to files that are mapped from the disk.

    Args:
        signal: all samples.
        config: how they are learned.
        known: flat indices int64 `[n]`, ascending, of the samples that training may see; None: all.
    """

    def __init__(self, signal: GridSignal, config: SignalRunConfig, known: Tensor | None = None):
        self.signal, self.config, self.known = signal, config, known
        self.field = grid_field(config.method.field, signal.info.sizes, signal.info.n_channels, config.seed)
        self._rows = signal.rows()

    def start(self, optimizer: Adam) -> StepFn:
        return make_step(self.field, optimizer, self.config.method.loss, self._batch)

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n_all = self.signal.info.n_samples if self.known is None else len(self.known)
        n = min(self.config.method.training.n_samples, n_all)
        if n == n_all:
            index = torch.arange(n)
        else:
            offsets = torch.rand(n, generator=step_generator(self.config.seed, step), dtype=torch.float64)
            index = ((torch.arange(n, dtype=torch.float64) + offsets) * (n_all / n)).long().clamp_(max=n_all - 1)
        index = index if self.known is None else self.known[index]
        values = self.signal.normalized(np.take(self._rows, index.numpy(), axis=0))
        return grid_positions(index, self.signal.info.sizes), torch.from_numpy(values)
