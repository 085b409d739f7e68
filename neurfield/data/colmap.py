# SPDX-License-Identifier: Apache-2.0
"""Photos with a sparse model of COLMAP: `images/` and `sparse/0/{cameras,images}.{bin,txt}`.

The model lies in `sparse/0`, `sparse`, `colmap/sparse/0` or the folder itself; of several, the one with the most views
is taken. Views are in the order of their names; every N-th is for testing. A mask is `masks/NAME.png`, or `masks/` with
the name of the photo, black = ignore. The world stays that of the model. Points are read by colmap_points.py.
"""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from os import SEEK_CUR
from pathlib import Path
from typing import BinaryIO, NoReturn, TypeVar

import numpy as np

from neurfield.cameras.paths import rotation_of
from neurfield.cameras.poses import Array, from_opencv
from neurfield.checks import shown
from neurfield.data import lens
from neurfield.data.options import LoadOptions
from neurfield.data.paths import is_file
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError
from neurfield.registry import nearest

# Where a model may lie below a data folder; `*` are the numbers of parts that could not be joined.
PLACES = ("sparse/*", "sparse", "colmap/sparse/*", ".")
# By COLMAP's number: name, and what its parameters are in the words of transforms.json: "f" is both focal lengths,
# "-" one of a model that is not supported.
MODELS = (
    ("SIMPLE_PINHOLE", "f cx cy"),
    ("PINHOLE", "fl_x fl_y cx cy"),
    ("SIMPLE_RADIAL", "f cx cy k1"),
    ("RADIAL", "f cx cy k1 k2"),
    ("OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2"),
    ("OPENCV_FISHEYE", "fl_x fl_y cx cy k1 k2 k3 k4"),
    ("FULL_OPENCV", "fl_x fl_y cx cy k1 k2 p1 p2 k3 ratio4 ratio5 ratio6"),
    ("FOV", "- - - - -"),
    ("SIMPLE_RADIAL_FISHEYE", "f cx cy k1"),
    ("RADIAL_FISHEYE", "f cx cy k1 k2"),
    ("THIN_PRISM_FISHEYE", "- - - - - - - - - - - -"),
    ("RAD_TAN_THIN_PRISM_FISHEYE", "- - - - - - - - - - - - - - - -"),
    ("SIMPLE_DIVISION", "- - - -"),
    ("DIVISION", "- - - - -"),
    ("SIMPLE_FISHEYE", "f cx cy"),
    ("FISHEYE", "fl_x fl_y cx cy"),
    ("EUCM", "- - - - - -"),
    ("EQUIRECTANGULAR", "w h"),
)
_SPELLED = {"FULL_OPENCV": "OPENCV", "SIMPLE_FISHEYE": "FISHEYE"}  # as transforms.json has them
# Of files from anywhere; a photo with ten thousand observations, which are passed over, takes 240 kB of one.
MAX_ENTRIES = 1 << 18  # cameras, or images
MAX_TEXT = 1 << 16  # of a line that is read, or of a name
LensFn = Callable[[], lens.Lens]
E = TypeVar("E")


@dataclass(frozen=True)
class _Image:
    number: int
    name: str
    camera: int
    quaternion: tuple[float, ...]
    translation: tuple[float, ...]


def detect(path: Path) -> bool:
    """A folder with a model where COLMAP and its followers put it."""
    return path.is_dir() and bool(_models(path))


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: a broken model, a lens that is not supported, and see `views.inspect`.
    """
    found = {folder: _images(folder) for folder in _models(path)}
    if not found:
        raise UserError(f"{path}: no sparse model of COLMAP, expected cameras and images, .bin or .txt, in sparse/0")
    model = max(found, key=lambda folder: len(found[folder]))
    root = _root(path).resolve()
    lenses = _cameras(model)
    frames = [_frame(image, lenses, root, model) for image in sorted(found[model], key=lambda image: image.name)]
    notes = []
    if len(found) > 1:
        sizes = ", ".join(f"{folder.name} with {len(images)}" for folder, images in found.items())
        notes.append(f"{model}: taken as the largest of the models {sizes} views, which were not joined")
    return replace(posed_photos("colmap", frames, root, options, str(model), notes), sparse_model=model)


def _models(path: Path) -> list[Path]:
    """Folders with a model, all in the first of the places that has any."""
    for place in PLACES:
        folders = [path] if place == "." else sorted(path.glob(place))
        found = [
            folder for folder in folders if folder.is_dir() and file_of(folder, "images") and file_of(folder, "cameras")
        ]
        if found:
            return found
    return []


def image_names(model: Path) -> dict[int, str]:
    """By the number of an image how its view is called, below the photos' folder.

    Raises:
        UserError: a broken file.
    """
    return {image.number: image.name for image in _images(model)}


def file_of(model: Path, name: str) -> Path | None:
    files = (model / f"{name}{suffix}" for suffix in (".bin", ".txt"))
    return next((file for file in files if file.is_file()), None)


def _root(path: Path) -> Path:
    """The data folder: that with the photos, where `path` is the model's own folder."""
    absolute = path.absolute()
    around = (absolute, *absolute.parents[:3])  # of .../colmap/sparse/0
    return next((folder for folder in around if (folder / "images").is_dir()), absolute)


def _frame(image: _Image, lenses: dict[int, LensFn], root: Path, model: Path) -> Frame:
    where = f"{model}: image {shown(image.name)}"
    if image.camera not in lenses:
        raise UserError(f"{where}: there is no camera {image.camera} (there are {', '.join(map(str, lenses))})")
    try:
        pose = _camera_to_world(image)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    folder = "images/" if (root / "images").is_dir() else ""
    masks = (f"masks/{image.name}.png", f"masks/{image.name}")
    mask = next((name for name in masks if is_file(root / name, where)), None)
    return Frame(folder + image.name, where, pose, lenses[image.camera](), mask=mask)


def _camera_to_world(image: _Image) -> Array:
    """OpenGL axes, of a unit quaternion (w, x, y, z) and a translation from world to camera."""
    rotation = rotation_of(image.quaternion)
    position = -rotation.T @ np.array(image.translation)
    return from_opencv(rotation.T, position)


def _cameras(model: Path) -> dict[int, LensFn]:
    """By the number of a camera what makes its lens; one that no photo has may be of any kind."""
    file = file_of(model, "cameras")
    assert file is not None
    with opened(file) if file.suffix == ".bin" else nullcontext() as data:
        return dict(_limited(file, _text_cameras(file) if data is None else _binary_cameras(data)))


def _text_cameras(file: Path) -> Iterator[tuple[int, LensFn]]:
    names = [name for name, _ in MODELS]
    for where, line in lines(file):
        words = line.split()
        if not words:
            continue
        if len(words) >= 5 and words[1] not in names:
            raise UserError(f"{where}: unknown model {shown(words[1])}{nearest(words[1], names)}")
        if len(words) < 5:
            raise UserError(f"{where}: expected CAMERA_ID MODEL WIDTH HEIGHT PARAMS[], got {shown(' '.join(words))}")
        number, width, height, *values = numbers(where, [words[0], *words[2:]])
        yield int(number), partial(_lens, file, int(number), names.index(words[1]), width, height, values)


def _binary_cameras(file: "_Bytes") -> Iterator[tuple[int, LensFn]]:
    for _ in range(file.take("<Q")[0]):
        number, model, width, height = file.take("<iiQQ")
        if not 0 <= model < len(MODELS):
            raise UserError(f"{file.path}: camera {number}: unknown model {model}")
        values = list(file.take(f"<{len(MODELS[model][1].split())}d"))
        yield number, partial(_lens, file.path, number, model, width, height, values)


def _lens(file: Path, number: int, model: int, width: float, height: float, values: list[float]) -> lens.Lens:
    where = f"{file}: camera {number}"
    name, spelled = MODELS[model]
    keys = spelled.split()
    if "-" in keys:
        usable = ", ".join(other for other, parameters in MODELS if "-" not in parameters)
        raise UserError(f"{where}: the model {name} is not supported ({usable} are); undistort the images with COLMAP")
    if len(values) != len(keys):
        raise UserError(f"{where}: {name} has {len(keys)} parameters, got {len(values)}")
    given = dict(zip(keys, values, strict=True)) | {"w": width, "h": height}
    if "f" in given:
        given["fl_x"] = given["fl_y"] = given.pop("f")
    if any(given.pop(key, 0.0) for key in ("ratio4", "ratio5", "ratio6")):
        raise UserError(
            f"{where}: k4, k5 and k6 of {name} are not supported unless 0; undistort the images with COLMAP"
        )
    return lens.parse(given | {"camera_model": _SPELLED.get(name, name)}, {}, where)


def _images(model: Path) -> list[_Image]:
    file = file_of(model, "images")
    assert file is not None
    with opened(file) if file.suffix == ".bin" else nullcontext() as data:
        images = _limited(file, _text_images(file) if data is None else _binary_images(data))
    if not images:
        raise UserError(f"{file}: no images, expected at least one view")
    return images


def _binary_images(file: "_Bytes") -> Iterator[_Image]:
    for _ in range(file.take("<Q")[0]):
        number, *pose, camera = file.take("<i7di")
        name = file.text()
        file.skip(24 * file.take("<Q")[0])  # x, y and the point of each observation
        yield _Image(number, name, camera, tuple(pose[:4]), tuple(pose[4:]))


def _text_images(file: Path) -> Iterator[_Image]:
    """Two lines an image; the second, its observations, may be empty."""
    is_first = True
    for where, line in lines(file):
        words = line.split(maxsplit=9)  # names may have spaces
        if is_first and not words:
            continue
        if is_first:
            if len(words) < 10:
                raise UserError(
                    f"{where}: expected IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, got {shown(' '.join(words))}"
                )
            number, *pose, camera = numbers(where, words[:9])
            yield _Image(int(number), words[9], int(camera), tuple(pose[:4]), tuple(pose[4:]))
        is_first = not is_first


def lines(file: Path) -> Iterator[tuple[str, str]]:
    """Place and stripped text of each line that is no comment; what is beyond MAX_TEXT is passed over."""
    try:
        with file.open(encoding="utf-8-sig") as text:
            number = 0
            while line := text.readline(MAX_TEXT):
                number += 1
                if not line.startswith("#"):
                    yield f"{file}:{number}", line.strip()
                while line and not line.endswith("\n"):
                    line = text.readline(MAX_TEXT)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file}: cannot read the file ({error})") from None


def numbers(where: str, words: list[str]) -> list[float]:
    try:
        values = [float(word) for word in words]
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    raise UserError(f"{where}: expected finite numbers, got {shown(' '.join(words))}")


def _limited(file: Path, entries: Iterator[E]) -> list[E]:
    found = list(islice(entries, MAX_ENTRIES + 1))
    if len(found) > MAX_ENTRIES:
        raise UserError(f"{file}: more than {MAX_ENTRIES} entries are too many for a data set")
    return found


@contextmanager
def opened(path: Path) -> Iterator["_Bytes"]:
    try:
        with path.open("rb") as file:
            yield _Bytes(path, file, path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path}: cannot read the file ({error.strerror or type(error).__name__})") from None


@dataclass(frozen=True)
class _Bytes:
    """A binary file of COLMAP, read from the front; what is skipped is not read."""

    path: Path
    file: BinaryIO
    size: int

    def take(self, form: str) -> tuple:
        """The next values; see struct."""
        data = self.file.read(struct.calcsize(form))
        if len(data) < struct.calcsize(form):
            self._fail()
        return struct.unpack(form, data)

    def text(self) -> str:
        """The next text, which ends with a zero byte."""
        start, data = self.file.tell(), self.file.read(MAX_TEXT)
        end = data.find(b"\0")
        if end < 0 and len(data) == MAX_TEXT:
            raise UserError(f"{self.path}: byte {start}: the name of an image has no end")
        if end < 0:
            self._fail()
        self.file.seek(start + end + 1)
        try:
            return data[:end].decode()
        except UnicodeDecodeError:
            raise UserError(f"{self.path}: byte {start}: the name of an image is no UTF-8 text") from None

    def skip(self, n: int) -> None:
        """Leaves out bytes."""
        if n > self.size - self.file.tell():
            self._fail()
        self.file.seek(n, SEEK_CUR)

    def _fail(self) -> NoReturn:
        raise UserError(f"{self.path}: the file ends too early, at byte {self.size}; copy the model again")
