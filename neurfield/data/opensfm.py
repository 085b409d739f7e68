# SPDX-License-Identifier: Apache-2.0
"""Photos with `reconstruction.json` of OpenSfM, which OpenDroneMap keeps in `opensfm/`.

A list of reconstructions, of which the one with the most photos is taken: `cameras` by name, whose focal lengths and
principal points are in units of the longer side of the picture, from its middle; and `shots` by the name of the photo
in `images/`, each with its camera, and as an axis times an angle and a translation the map from the world into it. The
world, metres east, north and up where photos say where they were taken, stays as it is.
"""

from pathlib import Path
from typing import Any

import numpy as np

from neurfield.cameras.paths import rotation_of
from neurfield.cameras.poses import Array, from_opencv
from neurfield.checks import shown
from neurfield.data import json_files, lens
from neurfield.data.options import LoadOptions
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError

PLACES = ("reconstruction.json", "opensfm/reconstruction.json")
# projection_type: camera_model and the coefficients of its distortion
MODELS = {
    "perspective": ("OPENCV", ("k1", "k2")),
    "simple_radial": ("OPENCV", ("k1",)),
    "radial": ("OPENCV", ("k1", "k2")),
    "brown": ("OPENCV", ("k1", "k2", "k3", "p1", "p2")),
    "fisheye": ("OPENCV_FISHEYE", ("k1", "k2")),
    "fisheye_opencv": ("OPENCV_FISHEYE", ("k1", "k2", "k3", "k4")),
    "spherical": ("EQUIRECTANGULAR", ()),
    "equirectangular": ("EQUIRECTANGULAR", ()),
}


def detect(path: Path) -> bool:
    """A `reconstruction.json`, or a folder with it where OpenSfM or OpenDroneMap put it."""
    return path.name == PLACES[0] if path.is_file() else _file(path) is not None


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no reconstruction, a lens that is not supported, a broken entry, and see `views.inspect`.
    """
    file = path if path.is_file() else _file(path)
    if file is None:
        raise UserError(f"{path}: no {' or '.join(PLACES)} in it")
    found = json_files.content_of(file)
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UserError(f"{file}: not of OpenSfM; expected a list of reconstructions")
    shots = [one["shots"] for one in found if isinstance(one.get("shots"), dict) and one["shots"]]
    if not shots:
        raise UserError(f"{file}: no reconstruction in it has shots")
    most = max(shots, key=len)
    cameras = next(one for one in found if one.get("shots") is most).get("cameras")
    root = file.parent.resolve()
    if root.name == "opensfm" and not (root / "images").is_dir():  # of a project of OpenDroneMap
        root = root.parent
    frames = [_frame(name, shot, cameras, file) for name, shot in sorted(most.items())]
    notes = []
    if len(shots) > 1:
        sizes = " and ".join(str(len(one)) for one in shots)
        notes.append(f"{file}: the largest of reconstructions of {sizes} photos, which were not joined")
    return posed_photos("opensfm", frames, root, options, str(file), notes)


def _file(path: Path) -> Path | None:
    return next((path / place for place in PLACES if (path / place).is_file()), None)


def _frame(name: str, shot: Any, cameras: Any, file: Path) -> Frame:
    where = f"{file}: shot {shown(name)}"
    if not isinstance(shot, dict):
        raise UserError(f"{where}: expected an object with camera, rotation and translation, got {shown(shot)}")
    camera = cameras.get(str(shot.get("camera"))) if isinstance(cameras, dict) else None
    if not isinstance(camera, dict):
        raise UserError(f"{where}: there is no camera {shown(shot.get('camera'))}")
    rotation, translation = (
        json_files.numbers(shot.get(key), (3,), f"{where}: {key}") for key in ("rotation", "translation")
    )
    try:
        to_camera = _rotation(rotation)
        pose = from_opencv(to_camera.T, -to_camera.T @ translation)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    return Frame(f"images/{name}", where, pose, lens.parse(_lens(camera, where), {}, where))


def _lens(camera: dict[str, Any], where: str) -> dict[str, Any]:
    """In the words of transforms.json."""
    kind = camera.get("projection_type")
    if not isinstance(kind, str) or kind not in MODELS:
        valid = ", ".join(MODELS)
        raise UserError(f"{where}: the projection {shown(kind)} of its camera is not supported (valid: {valid})")
    model, coefficients = MODELS[kind]

    def number(key: str, default: float | None = None) -> float:
        return float(json_files.numbers(camera.get(key, default), (), f"{where}: {key} of its camera"))

    width, height = number("width"), number("height")
    values: dict[str, Any] = {"camera_model": model, "w": width, "h": height}
    if model == "EQUIRECTANGULAR":
        return values
    side = max(width, height)
    for axis, size in (("x", width), ("y", height)):
        focal = f"focal_{axis}" if f"focal_{axis}" in camera else "focal"
        values[f"fl_{axis}"] = side * number(focal)
        values[f"c{axis}"] = size / 2 + side * number(f"c_{axis}", 0.0)
    return values | {key: number(key, 0.0) for key in coefficients}


def _rotation(axis_angle: Array) -> Array:
    """`[3, 3]` about an axis by its length in radians."""
    angle = float(np.linalg.norm(axis_angle))
    xyz = axis_angle * (np.sinc(angle / 2 / np.pi) / 2)  # sin(angle / 2) / angle, also at 0
    return rotation_of((np.cos(angle / 2), *xyz))
