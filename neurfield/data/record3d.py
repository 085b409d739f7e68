# SPDX-License-Identifier: Apache-2.0
"""Photos of the Record3D app: `metadata.json` and `rgb/`, or an unpacked .r3d with `metadata` and `rgbd/`.

The metadata have `poses`, a quaternion xyzw and a position for each photo (`0.jpg`, `1.jpg`, ...), OpenGL axes, in
metres of a world whose y is up; `w h`; and the lens: `K`, its matrix by columns, or of newer files
`perFrameIntrinsicCoeffs`, `fx fy cx cy` of each photo.
"""

from pathlib import Path
from typing import Any

import numpy as np

from neurfield.cameras.paths import rotation_of
from neurfield.cameras.poses import Array, rigid_pose
from neurfield.data import json_files, lens
from neurfield.data.options import LoadOptions
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError

PLACES = (("metadata.json", "rgb"), ("metadata", "rgbd"))
POSE, LENS = 7, 4  # numbers of each


def detect(path: Path) -> bool:
    """A folder with metadata and the pictures beside it, which are not those of Nerfies."""
    return path.is_dir() and _place(path) is not None and not (path / "dataset.json").is_file()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no metadata, poses or lenses that are none, and see `views.inspect`.
    """
    place = _place(path)
    if place is None:
        raise UserError(f"{path}: no metadata.json beside rgb, nor metadata beside rgbd, as Record3D has them")
    file, folder = path / place[0], place[1]
    content = json_files.content_of(file)
    if not isinstance(content, dict) or not isinstance(content.get("poses"), list) or not content["poses"]:
        raise UserError(f"{file}: not metadata of Record3D; expected an object with a list of poses")
    poses = [json_files.numbers(pose, (POSE,), f"{file}: pose {i}") for i, pose in enumerate(content["poses"])]
    lenses = _lenses(content, len(poses), file)
    frames = [
        _frame(f"{folder}/{i}", f"{file}: pose {i}", *both) for i, both in enumerate(zip(poses, lenses, strict=True))
    ]
    return posed_photos("record3d", frames, path.resolve(), options, str(file))


def _place(path: Path) -> tuple[str, str] | None:
    return next((place for place in PLACES if (path / place[0]).is_file() and (path / place[1]).is_dir()), None)


def _frame(name: str, where: str, numbers: Array, values: dict[str, float]) -> Frame:
    x, y, z, w = numbers[:4]
    try:
        pose = rigid_pose(np.concatenate([rotation_of((w, x, y, z)), numbers[4:, None]], axis=1))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return Frame(name, where, pose, lens.parse(values, {}, where))


def _lenses(content: dict[str, Any], n: int, file: Path) -> list[dict[str, float]]:
    each = content.get("perFrameIntrinsicCoeffs")
    if not each:
        matrix = json_files.numbers(content.get("K"), (9,), f"{file}: K").reshape(3, 3)  # of columns
        found = [np.array([matrix[0, 0], matrix[1, 1], matrix[2, 0], matrix[2, 1]])] * n
    elif isinstance(each, list) and len(each) == n:
        found = [json_files.numbers(values, (LENS,), f"{file}: lens {i}") for i, values in enumerate(each)]
    else:
        raise UserError(f"{file}: perFrameIntrinsicCoeffs must be a list of {n} lenses, one for each pose")
    size = {key: content[key] for key in ("w", "h") if key in content}
    return [dict(zip(("fl_x", "fl_y", "cx", "cy"), values.tolist(), strict=True)) | size for values in found]
