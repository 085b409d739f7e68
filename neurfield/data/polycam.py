# SPDX-License-Identifier: Apache-2.0
"""Photos of the Polycam app, as it exports its raw data: `keyframes/` with a JSON file of the camera of each photo.

`corrected_images/` and `corrected_cameras/` are without distortion and with poses that the app has adjusted; `images/`
and `cameras/`, as the phone recorded them, are read where those are missing. A camera has `fx fy cx cy width height`
and the rows `t_00 ... t_23` of its pose, OpenGL axes, in metres of a world whose y is up. `depth/` has the maps of the
phone's depth camera, where it has one, in millimetres.
"""

from pathlib import Path

from neurfield.cameras.poses import rigid_pose
from neurfield.data import json_files, lens
from neurfield.data.options import LoadOptions
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError

PAIRS = (("corrected_cameras", "corrected_images"), ("cameras", "images"))
LENS = {"fl_x": "fx", "fl_y": "fy", "cx": "cx", "cy": "cy", "w": "width", "h": "height"}


def detect(path: Path) -> bool:
    """A folder with `keyframes/` and cameras in it."""
    return path.is_dir() and _pair(path) is not None


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no cameras, one that is none, and see `views.inspect`.
    """
    pair = _pair(path)
    if pair is None:
        raise UserError(f"{path}: no cameras of Polycam, expected keyframes/corrected_cameras/*.json")
    cameras, images = pair
    folder = path / "keyframes" / cameras
    # called by their times
    files = sorted(folder.glob("*.json"), key=lambda file: (len(file.stem), file.stem))
    has_depth = (path / "keyframes/depth").is_dir()
    frames = [
        _frame(file, f"keyframes/{images}/{file.stem}", f"keyframes/depth/{file.stem}.png" if has_depth else None)
        for file in files
    ]
    notes = []
    if pair != PAIRS[0]:
        notes.append("poses as the phone recorded them: the export has none that Polycam has adjusted")
    return posed_photos("polycam", frames, path.resolve(), options, str(folder), notes)


def _pair(path: Path) -> tuple[str, str] | None:
    """The folders in `keyframes/`, the first that have cameras."""
    return next((pair for pair in PAIRS if any((path / "keyframes" / pair[0]).glob("*.json"))), None)


def _frame(file: Path, photo: str, depth: str | None) -> Frame:
    camera = json_files.content_of(file)
    if not isinstance(camera, dict):
        raise UserError(f"{file}: expected an object with the camera of a photo, got {type(camera).__name__}")

    def number(key: str) -> float:
        return float(json_files.numbers(camera.get(key), (), f"{file}: {key}"))

    pose = [[number(f"t_{row}{column}") for column in range(4)] for row in range(3)]
    values = {ours: number(theirs) for ours, theirs in LENS.items()}
    try:
        return Frame(photo, str(file), rigid_pose(pose), lens.parse(values, {}, str(file)), depth=depth)
    except ValueError as error:
        raise UserError(f"{file}: t_00 ... t_23: {error}") from None
