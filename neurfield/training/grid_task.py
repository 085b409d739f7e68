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
from neurfield.training.signal_step import make_step, step_generator
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
        self._resident = self._on_device()
        self._place = torch.device("cpu") if self._resident is None else self._device  # where samples are gathered
        self.known = None if known is None else known.to(self._place)

    def start(self, optimizer: Adam) -> StepFn:
        return make_step(self.field, optimizer, self.config.method.loss, self._batch)

    def _on_device(self) -> Tensor | None:
        """All samples as the field sees them, where they are worth a place on the device and have one."""
        info = self.signal.info
        if self._device.type == "cpu" or 4 * info.n_samples * info.n_channels > MAX_RESIDENT:
            return None
        values = torch.empty(info.n_samples, info.n_channels, device=self._device)
        begin = 0
        for rows in slabs(self._rows):
            values[begin : begin + len(rows)] = torch.from_numpy(self.signal.normalized(rows))
            begin += len(rows)
        return values

    def _values(self, index: Tensor) -> Tensor:
        if self._resident is not None:
            return self._resident[index]
        return torch.from_numpy(self.signal.normalized(np.take(self._rows, index.numpy(), axis=0)))

    def _batch(self, step: int) -> tuple[Tensor, Tensor]:
        n_all = self.signal.info.n_samples if self.known is None else len(self.known)
        n = min(self.config.method.training.n_samples, n_all)
        if n == n_all:
            index = torch.arange(n, device=self._place)
        else:
            drawn = torch.rand(n, generator=step_generator(self.config.seed, step), dtype=torch.float64)
            parts = torch.arange(n, dtype=torch.float64, device=self._place) + hand_over(drawn, self._place)
            index = (parts * (n_all / n)).long().clamp_(max=n_all - 1)
        index = index if self.known is None else self.known[index]
        x = grid_positions(index, self.signal.info.sizes)
        return hand_over(x, self._device), hand_over(self._values(index), self._device)
