# SPDX-License-Identifier: Apache-2.0
"""A sampled field as an array of the source's type, in memory or straight into a .npy file."""

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from neurfield.data.signals.grid import GridInfo
from neurfield.progress import Progress, silent
from neurfield.rendering.sampled import sample_grid


def sampled_array(
    field: nn.Module,
    info: GridInfo,
    sizes: tuple[int, ...],
    progress: Progress = silent,
    npy: Path | None = None,
) -> np.ndarray:
    """`[*sizes, n_channels]`, stored values.

    Args:
        npy: a .npy file to be created and filled piece by piece, for results that are larger than memory; without the
            axis of channels where there is one.
    """
    if npy is None:
        values = np.empty((*sizes, info.n_channels), np.dtype(info.dtype))
        rows = values.reshape(-1, info.n_channels)
    else:
        shape = sizes if info.n_channels == 1 else (*sizes, info.n_channels)
        values = np.lib.format.open_memmap(npy, mode="w+", dtype=np.dtype(info.dtype), shape=shape)
        rows = values.reshape(-1, info.n_channels)

    def add(begin: int, end: int, part: Tensor) -> None:
        rows[begin:end] = info.stored(part.clamp(0, 1).numpy())

    sample_grid(field, sizes, add, progress)
    if isinstance(values, np.memmap):
        values.flush()
    return values
