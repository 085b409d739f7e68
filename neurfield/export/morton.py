# SPDX-License-Identifier: Apache-2.0
"""Cells in the order of an occupancy grid, as arrays of three axes."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T", bound=np.generic)


def raster(values: NDArray[T]) -> NDArray[T]:
    """`[n^3]` in Morton order, x in bit 0, n a power of two, as `[n, n, n]` (z, y, x)."""
    n_bits = (len(values).bit_length() - 1) // 3  # of a coordinate
    bits = values.reshape((2,) * (3 * n_bits))  # z, y, x of the highest bit, of the next, ...
    return bits.transpose([3 * bit + axis for axis in range(3) for bit in range(n_bits)]).reshape((1 << n_bits,) * 3)
