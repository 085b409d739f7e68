# SPDX-License-Identifier: Apache-2.0
"""A sampled field as an array of the source's type, in memory or straight into a .npy file."""

import math
import os
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from neurfield.data.signals.grid import GridInfo
from neurfield.errors import UserError
from neurfield.memory import available_bytes, readable
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
        _reserve(npy)
        rows = values.reshape(-1, info.n_channels)

    def add(begin: int, end: int, part: Tensor) -> None:
        rows[begin:end] = info.stored(part.clamp(0, 1).numpy())

    sample_grid(field, sizes, add, progress)
    if isinstance(values, np.memmap):
        values.flush()
    return values


def check_memory(info: GridInfo, sizes: tuple[int, ...], bytes_per_value: float) -> None:
    """Raises UserError for what would run out of memory, which a system may tell by killing, after it was sampled.

    Args:
        bytes_per_value: that the array and all that is made of it take at the same time.
    """
    needed, free = int(math.prod(sizes) * info.n_channels * bytes_per_value), available_bytes()
    if free is not None and needed > free:
        raise UserError(
            f"{math.prod(sizes) / 1e6:.0f} million samples need {readable(needed)} of memory in this format, "
            f"{readable(free)} are free; take fewer, or give a .npy, which is written piece by piece"
        )


def _reserve(path: Path) -> None:
    """Gives a file all the room that its length says: to write through a map where there is none kills the process."""
    if hasattr(os, "posix_fallocate"):
        with open(path, "r+b") as file:
            os.posix_fallocate(file.fileno(), 0, os.fstat(file.fileno()).st_size)
