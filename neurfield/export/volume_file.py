# SPDX-License-Identifier: Apache-2.0
"""A sampled volume as NIfTI (.nii, .nii.gz) or .npy."""

from pathlib import Path

import numpy as np
from torch import nn

from neurfield.data.signals.grid import GridInfo
from neurfield.data.signals.volume import SUFFIXES, suffix_of
from neurfield.errors import UserError
from neurfield.export.sampled_array import check_memory, sampled_array
from neurfield.files import atomic_path, atomic_write
from neurfield.progress import Progress, silent


def write_volume(
    field: nn.Module,
    info: GridInfo,
    sizes: tuple[int, ...],
    path: Path,
    progress: Progress = silent,
) -> None:
    """Samples a field at `sizes` and writes the volume; a NIfTI's affine map is fitted to the new voxels, its
    units and the name of its space are kept.

    Raises:
        UserError: unknown suffix, more values than memory holds, or nibabel is not installed.
        MachineError: the disk refuses.
    """
    suffix = suffix_of(path)
    if suffix == ".npy":
        with atomic_path(path) as temporary:
            sampled_array(field, info, sizes, progress, temporary)
    elif suffix in SUFFIXES:
        check_memory(info, sizes, 3 * np.dtype(info.dtype).itemsize)  # the array, the file's bytes and a copy of these
        data = _nifti(sampled_array(field, info, sizes, progress), info)
        if suffix == ".nii.gz":
            import gzip

            data = gzip.compress(data, compresslevel=6)
        with atomic_write(path) as file:
            file.write(data)
    else:
        raise UserError(f"{path}: a volume is written as .npy, {' or '.join(SUFFIXES)}")


def _nifti(values: np.ndarray, info: GridInfo) -> bytes:
    try:
        import nibabel
    except ImportError:
        raise UserError("NIfTI is written by nibabel, which is not installed: pip install nibabel") from None
    affine = np.eye(4) if info.affine is None else np.array(info.affine).reshape(4, 4)
    voxel = np.array(info.sizes) / np.array(values.shape[:3])  # old voxels per new one
    # centres are at k + 1/2 voxels from the corner, in both grids
    new_from_old = np.eye(4)
    new_from_old[:3, :3] = np.diag(voxel)
    new_from_old[:3, 3] = (voxel - 1) / 2
    image = nibabel.Nifti1Image(values[..., 0] if values.shape[3] == 1 else values, affine @ new_from_old)
    if info.space:
        image.header["sform_code"] = info.space
    image.header["xyzt_units"] = info.units
    return bytes(image.to_bytes())
