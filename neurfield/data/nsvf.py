# SPDX-License-Identifier: Apache-2.0
"""Pictures with poses as NSVF lays them out, and KiloNeRF and others after it: `rgb/`, `pose/`, `intrinsics.txt`.

`pose/NAME.txt` is camera to world [4, 4], y down and z forward. `intrinsics.txt` is the lens of all pictures: its
matrix [4, 4], or, by lines, (focal length, principal point, 0), three numbers that are not used, the nearest depth, a
scale, and (height, width). `bbox.txt` has the corners of the box around the object, which fills the unit cube. Names
that begin with 0_ are for training, those with 2_ for testing; those with 1_ are for testing, too, where there are no
others.
"""

from functools import partial
from pathlib import Path

import numpy as np

from neurfield.cameras.poses import Array, from_opencv
from neurfield.checks import is_float32
from neurfield.data import lens, normalize
from neurfield.data.options import LoadOptions
from neurfield.data.posed_photos import posed_photos
from neurfield.data.scene import Normalization
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError
from neurfield.files import read_bytes

LENS, BOX = "intrinsics.txt", "bbox.txt"
MAX_BYTES = 1 << 16  # of a text file; a matrix takes 500


def detect(path: Path) -> bool:
    """A folder with the lens, `pose/` and `rgb/`."""
    return path.is_dir() and (path / LENS).is_file() and (path / "pose").is_dir() and (path / "rgb").is_dir()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no lens or poses, files that hold something else, and see `views.inspect`.
    """
    values = _lens(path / LENS)
    files = sorted((path / "pose").glob("*.txt"))
    if not files:
        raise UserError(f"{path / 'pose'}: no poses, expected NAME.txt for each picture of rgb/")
    frames = [
        Frame(f"rgb/{file.stem}", str(file), _pose(file), lens.parse(values, {}, str(path / LENS))) for file in files
    ]
    choose = partial(_in_box, *_box(path / BOX)) if (path / BOX).is_file() else normalize.from_poses
    return posed_photos("nsvf", frames, path.resolve(), options, str(path), choose=choose, split_of=_split(files))


def _split(files: list[Path]) -> dict[str, str] | None:
    """Names of frames and their splits, or None where the names say nothing of them."""
    kinds = {file.stem[:2] for file in files}
    if not kinds <= {"0_", "1_", "2_"} or "0_" not in kinds:
        return None
    splits = {"0_": "train", "1_": "val" if "2_" in kinds else "test", "2_": "test"}
    return {f"rgb/{file.stem}": splits[file.stem[:2]] for file in files}


def _lens(file: Path) -> dict[str, float]:
    """In the words of transforms.json."""
    lines = _numbers(file)
    if [len(line) for line in lines[:3]] == [4, 4, 4]:
        (fl_x, skew, cx, _), (_, fl_y, cy, _) = lines[:2]
        if skew:
            raise UserError(f"{file}: its pixels are skewed by {skew:g}, which no lens here has")
        return {"fl_x": fl_x, "fl_y": fl_y, "cx": cx, "cy": cy}
    if len(lines) < 5 or len(lines[0]) < 3 or len(lines[4]) != 2:
        raise UserError(
            f"{file}: expected a matrix [4, 4], or a focal length and a principal point, ..., height and width"
        )
    if len(lines) > 5 and any(lines[5]):
        raise UserError(f"{file}: poses from world to camera are not supported, invert them")
    (focal, cx, cy), (height, width) = lines[0][:3], lines[4]
    return {"fl_x": focal, "fl_y": focal, "cx": cx, "cy": cy, "w": width, "h": height}


def _pose(file: Path) -> Array:
    lines = _numbers(file)
    if [len(line) for line in lines] != [4, 4, 4, 4]:
        raise UserError(f"{file}: expected a pose, a matrix [4, 4]")
    matrix = np.array(lines)
    try:
        return from_opencv(matrix[:3, :3], matrix[:3, 3])
    except ValueError as error:
        raise UserError(f"{file}: {error}") from None


def _box(file: Path) -> tuple[Array, Array]:
    numbers = np.array([number for line in _numbers(file) for number in line])
    if len(numbers) < 6 or not (numbers[:3] < numbers[3:6]).all():
        raise UserError(f"{file}: expected the lower and the upper corner of a box, got {numbers[:6].tolist()}")
    return numbers[:3], numbers[3:6]


def _in_box(low: Array, high: Array, *_: object) -> tuple[Normalization, list[str]]:
    return normalize.box(low, high), []


def _numbers(file: Path) -> list[list[float]]:
    """Of each line that is not empty."""
    try:
        text = read_bytes(file, MAX_BYTES).decode()
        lines = [[float(word) for word in line.split()] for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise UserError(f"{file}: expected numbers ({error})") from None
    if not all(is_float32(number) for line in lines for number in line):
        raise UserError(f"{file}: expected finite numbers")
    return lines
