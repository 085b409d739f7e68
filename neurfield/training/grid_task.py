# SPDX-License-Identifier: Apache-2.0
"""Learning a signal on a grid: an image, a video or a volume."""

import numpy as np
import torch
from torch import Tensor

from neurfield.data.signals.grid import GridSignal, slabs
from neurfield.fields.signal_field import grid_field, grid_positions
from neurfield.sampling.hand_over import hand_over
from neurfield.training.optimizer import Adam
from neurfield.training.signal_method import SignalRunConfig
from neurfield.training.signal_step import make_step
from neurfield.training.step_random import step_generator
from neurfield.training.task import NoState, StepFn

MAX_RESIDENT = 1 << 30  # bytes on a device: all images that are read by default, 64 megapixels of 4 float32 channels


class GridTask(NoState):
    """A GridSignal, to be learned by a SignalField.

    A step takes samples that are random within equal parts of the array, in its order: as even as possible, and kind to
    the caches and to files that are mapped from the disk. The samples are the same on every device. On CUDA they come
    from an array there, unless it would be too large; then the host gathers them, and the device does not wait.

    Args:
        signal: all samples.
        config: how they are learned.
        known: flat indices int64 `[n]`, ascending, of the samples that training may see; None: all.
    """

    def __init__(self, signal: GridSignal, config: SignalRunConfig, known: Tensor | None = None):
        self.signal, self.config = signal, config
        self._device = torch.device(config.device)
        field = grid_field(config.method.field, signal.info.sizes, signal.info.n_channels, config.seed)
        self.field = field.to(self._device)
        self._rows = signal.rows()
        self._resident = self._on_device(known)
        self._place = torch.device("cpu") if self._resident is None else self._device  # where samples are gathered
        self.known = None if known is None else known.to(self._place)

    def start(self, optimizer: Adam) -> StepFn:
        return make_step(self.field, optimizer, self.config.method.loss, self._batch)

    def _on_device(self, known: Tensor | None) -> Tensor | None:
        """The samples that training sees, as the field does, where they are worth a place there and have one."""
        n, n_channels = self.signal.info.n_samples if known is None else len(known), self.signal.info.n_channels
        if self._device.type == "cpu" or 4 * n * n_channels > MAX_RESIDENT:
            return None
        values, begin = torch.empty(n, n_channels, device=self._device), 0
        parts = slabs(self._rows) if known is None else (np.take(self._rows, k, axis=0) for k in slabs(known.numpy()))
        for rows in parts:
            values[begin : begin + len(rows)] = torch.from_numpy(self.signal.normalized(rows))
            begin += len(rows)
        return values

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n_all = self.signal.info.n_samples if self.known is None else len(self.known)
        n = min(self.config.method.training.n_samples, n_all)
        if n == n_all:
            index = torch.arange(n, device=self._place)
        else:
            drawn = torch.rand(n, generator=step_generator(self.config.seed, step), dtype=torch.float64)
            parts = torch.arange(n, dtype=torch.float64, device=self._place) + hand_over(drawn, self._place)
            index = (parts * (n_all / n)).long().clamp_(max=n_all - 1)
        place = index if self.known is None else self.known[index]
        x = hand_over(grid_positions(place, self.signal.info.sizes), self._device)
        if self._resident is not None:
            return x, self._resident[index]
        values = self.signal.normalized(np.take(self._rows, place.numpy(), axis=0))
        return x, hand_over(torch.from_numpy(values), self._device)
