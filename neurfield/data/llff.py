# SPDX-License-Identifier: Apache-2.0
"""Photos with `poses_bounds.npy`, as LLFF and the forward-facing scenes of NeRF have them, without COLMAP's model.

A row of the array is a pose of one photo, in the order of their names: a matrix [3, 5] whose columns are where down,
right and back point, the position, and (height, width, focal length); then the depths of the nearest and the farthest
that the photo shows. Photos are those of `images/`, or of `images_K/` with a downscale factor of K.
"""

from pathlib import Path

import numpy as np

from neurfield.cameras.poses import Array, rigid_pose
from neurfield.data import lens, normalize
from neurfield.data.options import LoadOptions
from neurfield.data.paths import IMAGE_SUFFIXES
from neurfield.data.posed_photos import posed_photos
from neurfield.data.scene import Normalization
from neurfield.data.signals.arrays import open_array
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError

FILE, FOLDER, NUMBERS = "poses_bounds.npy", "images", 17
MAX_BYTES = 64 << 20  # room for half a million photos


def detect(path: Path) -> bool:
    """The array, or a folder with it and `images/`."""
    return path.name == FILE if path.is_file() else (path / FILE).is_file() and (path / FOLDER).is_dir()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no such array, another number of poses than of photos, poses that are none, and see `views.inspect`.
    """
    file = path if path.is_file() else path / FILE
    root = file.parent.resolve()
    rows = _rows(file)
    photos = sorted(p.name for p in (root / FOLDER).glob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if len(rows) != len(photos):
        raise UserError(f"{file}: has {len(rows)} poses, {FOLDER}/ has {len(photos)} photos")
    frames = [
        _frame(f"{FOLDER}/{name}", f"{file}: row {i}", row)
        for i, (name, row) in enumerate(zip(photos, rows, strict=True))
    ]
    # where half of what is between the nearest and the farthest, by disparity, is in front
    depth = float(np.median(2 / (1 / rows[:, 15:]).sum(axis=1)))

    def at_depth(c2w: Array, tan_half_fov: Array, has_alpha: bool) -> tuple[Normalization, list[str]]:
        return normalize.from_poses(c2w, tan_half_fov, has_alpha, depth)

    return posed_photos("llff", frames, root, options, str(file), choose=at_depth)


def _rows(file: Path) -> Array:
    rows = open_array(file)
    if rows.ndim != 2 or rows.shape[1] != NUMBERS or not len(rows):
        raise UserError(f"{file}: expected numbers [n, {NUMBERS}], got {rows.dtype} {list(rows.shape)}")
    if rows.nbytes > MAX_BYTES:
        raise UserError(f"{file}: {rows.nbytes >> 20} MiB are too much for poses ({MAX_BYTES >> 20} MiB allowed)")
    rows = rows.astype(np.float64)
    bad = ~np.isfinite(rows).all(axis=1) | ~(rows[:, 15] > 0) | ~(rows[:, 16] > rows[:, 15])
    if bad.any():
        row = int(bad.argmax())
        depths = " and ".join(f"{depth:g}" for depth in rows[row, 15:])
        raise UserError(f"{file}: row {row}: expected finite numbers, depths above 0 and in order; got {depths}")
    return rows


def _frame(name: str, where: str, row: Array) -> Frame:
    down, right, back, position, (height, width, focal) = row[:15].reshape(3, 5).T
    values = {"fl_x": focal, "fl_y": focal, "w": width, "h": height}
    try:
        pose = rigid_pose(np.stack([right, -down, back, position], axis=1))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return Frame(name, where, pose, lens.parse({key: float(value) for key, value in values.items()}, {}, where))
