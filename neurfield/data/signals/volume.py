# SPDX-License-Identifier: Apache-2.0
"""Volumes: NIfTI through nibabel, and .npy, mapped from the disk; the axes are those of the array."""

from pathlib import Path
from typing import Any

import numpy as np

from neurfield.data.signals.arrays import array_shape, open_array
from neurfield.data.signals.grid import GridSignal, grid_signal
from neurfield.errors import UserError, retold
from neurfield.memory import available_bytes, readable
from neurfield.progress import Progress, silent

SUFFIXES = (".nii", ".nii.gz")
MAX_CHANNELS = 4
_UNITS = 0x3F  # the bits of xyzt_units that mean something, of a header that may hold more


def suffix_of(path: Path) -> str:
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def detect(path: Path) -> bool:
    """By suffix; a .npy is a volume with three axes, or four of which the last has at most four values."""
    if suffix_of(path) == ".npy":
        shape = array_shape(path)
        return (len(shape) == 3 and shape[-1] > MAX_CHANNELS) or (len(shape) == 4 and shape[-1] <= MAX_CHANNELS)
    return suffix_of(path) in SUFFIXES


def read(path: Path, max_megapixels: float = 64.0, progress: Progress = silent) -> GridSignal:
    """Reads a volume `[x, y, z, channels]`; values as stored in a NIfTI file, its slope and intercept applied where
    there are any (then float32).

    Raises:
        UserError: broken, no volume, empty, not finite, or larger than memory.
    """
    suffix = suffix_of(path)
    name = path.name[: -len(suffix)]
    if suffix == ".npy":
        values, known = open_array(path), dict[str, Any]()
    else:
        values, known = _nifti(path)
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or not 1 <= values.shape[-1] <= MAX_CHANNELS:
        shape = " x ".join(map(str, values.shape))
        raise UserError(f"{path}: expected three axes, or a fourth of at most {MAX_CHANNELS} channels, got {shape}")
    return grid_signal(values, str(path), name=name, suffix=suffix, **known)


def _nifti(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    """The values, and what a GridInfo keeps of the header."""
    try:
        import nibabel
    except ImportError:
        raise UserError(f"{path}: NIfTI is read by nibabel, which is not installed: pip install nibabel") from None
    try:
        image: Any = nibabel.load(path)
        free, n_bytes = available_bytes(), 8 * int(np.prod(image.shape, dtype=object))
        if free and n_bytes > free:  # the header alone has been read: a few bytes of it may announce anything
            raise UserError(f"{path}: its {image.shape} values need {readable(n_bytes)}, {readable(free)} are free")
        stored = image.dataobj
        has_slope = (stored.slope, stored.inter) != (1.0, 0.0)
        values = np.asarray(stored, np.float32) if has_slope else np.asarray(stored.get_unscaled())
        if values.dtype.kind not in "iuf":
            raise UserError(f"{path}: expected whole numbers or floats, got {values.dtype}")
        # in the order of our arrays, so that its rows are a view: files have the other
        values = values.astype(values.dtype.newbyteorder("="), order="C", copy=False)
        head = image.header
        return values, {
            "affine": tuple(float(v) for v in np.asarray(image.affine, np.float64).ravel()),
            "units": int(head["xyzt_units"]) & _UNITS,
            "space": max(int(head["sform_code"]) or int(head["qform_code"]), 0),
        }
    except Exception as error:  # what nibabel raises for broken files is not documented
        raise retold(error, f"{path}: not a whole NIfTI volume") from None
