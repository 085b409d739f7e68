# SPDX-License-Identifier: Apache-2.0
"""NumPy files as memory maps: only their headers are read until values are asked for, and nothing is executed."""

from pathlib import Path

import numpy as np

from neurfield.errors import UserError, retold

KINDS = "iuf"  # signed and unsigned whole numbers, floats


def array_shape(path: Path) -> tuple[int, ...]:
    """Axes of a .npy file; raises UserError like `open_array`."""
    return open_array(path).shape


def open_array(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped read-only.

    Raises:
        UserError: unreadable, truncated, of objects (which would execute code), an archive, or no real numbers.
    """
    try:
        with np.errstate(over="ignore"):  # of a size that no file has, which is refused
            values = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # what it raises for broken headers is not documented
        raise retold(error, f"{path}: not a whole .npy file of numbers") from None
    if values.dtype.kind not in KINDS or values.dtype.itemsize > 8:
        raise UserError(f"{path}: expected whole numbers or floats, got {values.dtype}")
    return values
