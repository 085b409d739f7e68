# SPDX-License-Identifier: Apache-2.0
"""Photos with the cameras that Agisoft Metashape exports as XML, in a file beside them or beside `images/`.

`sensors` hold the lenses: `f` in pixels, the principal point `cx cy` from the middle of the picture, `b1` by which the
focal length across is longer, radial `k1 ... k4`, and tangential `p1 p2`, which OpenCV has the other way round
(Metashape's manual, appendix "Camera models"). `cameras` hold the poses within their component, with y down and z
forward, and `components` the similarity from there to the world, whose unit is metres where it is known. Of components
that have none, which nothing joins, the largest is taken. Cameras that were not aligned, or are disabled, are left out.
"""

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from neurfield.cameras.poses import Array, from_opencv
from neurfield.checks import is_number, shown
from neurfield.data import lens
from neurfield.data.options import LoadOptions
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError, retold
from neurfield.files import read_bytes

SENSORS = {
    "frame": "OPENCV",
    "fisheye": "OPENCV_FISHEYE",
    "equidistant_fisheye": "OPENCV_FISHEYE",
    "spherical": "EQUIRECTANGULAR",
}
UNSUPPORTED = ("p3", "p4")
MAX_SKEW = 1e-3  # of the focal length: half a pixel at the corner of a thousand
MAX_BYTES = 256 << 20
HEAD = 4096  # bytes in which a file says what it is


@dataclass(frozen=True)
class _Similarity:
    rotation: Array
    translation: Array
    scale: float


def detect(path: Path) -> bool:
    """A file of cameras, or a folder with one."""
    return _is_metashape(path) if path.is_file() else _file(path) is not None


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: no such file or a broken one, a lens that is not supported, no aligned camera, and see
            `views.inspect`.
    """
    file = path if path.is_file() else _file(path)
    if file is None:
        raise UserError(f"{path}: no XML of Metashape's cameras in it")
    chunk = _chunk(file)
    root = file.parent.resolve()
    folder = "images/" if (root / "images").is_dir() else ""
    lenses = {sensor.get("id"): sensor for sensor in chunk.iterfind("sensors/sensor")}
    parts = [part for part in chunk.iterfind("components/component") if part.find("transform") is not None]
    components = {part.get("id"): _similarity(part, file) for part in parts}
    whole = _similarity(chunk, file)
    cameras = [camera for camera in chunk.iterfind("cameras//camera") if camera.get("enabled") not in ("false", "0")]
    aligned = [camera for camera in cameras if camera.find("transform") is not None]
    if not aligned:
        raise UserError(f"{file}: none of its {len(cameras)} cameras was aligned; align the photos and export again")
    lost = len(cameras) - len(aligned)
    notes = [f"{file}: {lost} of {len(cameras)} cameras were not aligned"] if lost else []
    photos = Counter(camera.get("component_id") for camera in aligned)
    if len(photos) > 1 and not photos.keys() <= components.keys():  # some with a world of their own
        ((largest, _),) = photos.most_common(1)
        aligned = [camera for camera in aligned if camera.get("component_id") == largest]
        sizes = " and ".join(str(n) for _, n in photos.most_common())
        notes.append(f"{file}: the largest of components of {sizes} photos, which were not joined")
    frames = []
    for camera in aligned:
        where = f"{file}: camera {shown(camera.get('label'))}"
        if camera.get("sensor_id") not in lenses:
            raise UserError(f"{where}: there is no sensor {shown(camera.get('sensor_id'))}")
        sensor = lenses[camera.get("sensor_id")]
        pose = _pose(camera, components.get(camera.get("component_id"), whole), where)
        name = folder + _photo(camera.get("label", ""))
        frames.append(Frame(name, where, pose, lens.parse(_lens(sensor, where), {}, where)))
    return posed_photos("metashape", frames, root, options, str(file), notes)


def _photo(label: str) -> str:
    """A label is the name of the photo, with or without its suffix, or the whole path of where it was."""
    path = PureWindowsPath(label)  # of which both kinds of slashes part names
    return path.name if path.root else path.as_posix()


def _file(path: Path) -> Path | None:
    return next((file for file in sorted(path.glob("*.xml")) if _is_metashape(file)), None)


def _is_metashape(path: Path) -> bool:
    if path.suffix.lower() != ".xml" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError:
        return False
    return b"<document" in head and b"<chunk" in head


def _chunk(file: Path) -> ET.Element:
    text = read_bytes(file, MAX_BYTES)
    if b"\0" in text:  # UTF-16, whose declarations the next line would not see
        raise UserError(f"{file}: expected UTF-8 text; export the cameras again")
    if b"<!" in text.replace(b"<!--", b""):  # entities can unfold to more than the memory holds
        raise UserError(f"{file}: declarations (<!DOCTYPE ...>) are not read; export the cameras again")
    try:
        root = ET.fromstring(text)
    except (ET.ParseError, ValueError, LookupError) as error:
        raise retold(error, f"{file}: not valid XML") from None
    chunks = [chunk for chunk in root.iterfind("chunk") if chunk.find("cameras") is not None]
    if len(chunks) != 1:
        raise UserError(f"{file}: expected one chunk with cameras, got {len(chunks)}; export one chunk alone")
    return chunks[0]


def _lens(sensor: ET.Element, where: str) -> dict[str, Any]:
    """In the words of transforms.json."""
    kind = sensor.get("type", "frame")
    if kind not in SENSORS:
        raise UserError(f"{where}: sensors of type {shown(kind)} are not supported (valid: {', '.join(SENSORS)})")
    size = sensor.find("resolution")
    if size is None:
        raise UserError(f"{where}: its sensor has no resolution")
    width, height = (_number(size.get(key), f"{where}: {key} of its sensor") for key in ("width", "height"))
    values: dict[str, Any] = {"camera_model": SENSORS[kind], "w": width, "h": height}
    if SENSORS[kind] == "EQUIRECTANGULAR":
        return values
    found = sensor.findall("calibration")
    calibration = next((one for one in found if one.get("class") == "adjusted"), found[0] if found else None)
    if calibration is None or calibration.find("f") is None:
        raise UserError(f"{where}: its sensor has no calibration with a focal length f; export the cameras again")
    given = {child.tag: child.text for child in calibration}

    def coefficient(key: str) -> float:
        return _number(given.get(key, "0"), f"{where}: {key} of its sensor")

    focal = coefficient("f")
    unsupported = [key for key in UNSUPPORTED if coefficient(key)]
    if unsupported:
        raise UserError(f"{where}: {' and '.join(unsupported)} of its sensor are not supported; calibrate without")
    if abs(coefficient("b2")) > MAX_SKEW * abs(focal):
        raise UserError(f"{where}: pixels that are skewed (b2 = {coefficient('b2'):g}) are not supported")
    values |= {"fl_x": focal + coefficient("b1"), "fl_y": focal}
    values |= {"cx": width / 2 + coefficient("cx"), "cy": height / 2 + coefficient("cy")}
    values |= {key: coefficient(key) for key in ("k1", "k2", "k3", "k4")}
    return values | {"p1": coefficient("p2"), "p2": coefficient("p1")}


def _pose(camera: ET.Element, to_world: _Similarity, where: str) -> Array:
    matrix = np.array(_numbers(camera.find("transform"), 16, f"{where}: transform")).reshape(4, 4)
    rotation = to_world.rotation @ matrix[:3, :3]
    position = to_world.scale * to_world.rotation @ matrix[:3, 3] + to_world.translation
    try:
        return from_opencv(rotation, position)
    except ValueError as error:
        raise UserError(f"{where}: transform: {error}") from None


def _similarity(owner: ET.Element, file: Path) -> _Similarity:
    """From an element with a `transform` of rotation, translation and scale; what is missing changes nothing."""
    where = f"{file}: transform of the {owner.tag} {shown(owner.get('id', owner.get('label')))}"
    parts = {
        key: np.array(list(_numbers(owner.find(f"transform/{key}"), n, f"{where}: {key}", default)))
        for key, n, default in (("rotation", 9, np.eye(3).ravel()), ("translation", 3, np.zeros(3)), ("scale", 1, [1]))
    }
    scale = float(parts["scale"][0])
    if not scale > 0:
        raise UserError(f"{where}: the scale must be positive, got {scale:g}")
    return _Similarity(parts["rotation"].reshape(3, 3), parts["translation"], scale)


def _numbers(element: ET.Element | None, n: int, where: str, default: Any = ()) -> Any:
    if element is None and len(default):
        return default
    words = (element.text or "").split() if element is not None else []
    if len(words) != n:
        raise UserError(f"{where}: expected {n} numbers, got {len(words)}")
    return [_number(word, where) for word in words]


def _number(word: str | None, where: str) -> float:
    try:
        value = float(word or "")
    except ValueError:
        value = float("nan")
    if not is_number(value):
        raise UserError(f"{where}: expected a finite number, got {shown(word)}")
    return value
