# SPDX-License-Identifier: Apache-2.0
"""Captures of things that move, as Nerfies, HyperNeRF and DyCheck lay them out.

`dataset.json` lists the `ids` of the photos, those for training and those to validate with, which are for testing here;
`camera/ID.json` has the position, the rows right, down and forward of the `orientation`, and the lens, as OpenCV has
it, of the picture in its full size, which `rgb/1x/ID.png` holds and `rgb/Kx/` 1/K as large. `metadata.json` says of
each ID in which step of time it was taken (`time_id`, or `warp_id` of Nerfies): the first is 0 and the last is 1.
"""

from pathlib import Path
from typing import Any

from neurfield.cameras.poses import Array, from_opencv
from neurfield.checks import shown
from neurfield.data import json_files, lens
from neurfield.data.options import LoadOptions
from neurfield.data.paths import resolve
from neurfield.data.posed_photos import posed_photos
from neurfield.data.views import Frame, Manifest
from neurfield.errors import UserError

LISTS, TIMES = "dataset.json", "metadata.json"
STEPS = ("time_id", "warp_id")


def detect(path: Path) -> bool:
    """A folder with the lists, `camera/` and `rgb/`."""
    return path.is_dir() and (path / LISTS).is_file() and (path / "camera").is_dir() and (path / "rgb").is_dir()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: files that hold something else, and see `views.inspect`.
    """
    root = path.resolve()
    file = path / LISTS
    content = json_files.content_of(file)
    every, train, val = (_ids(content, key, file) for key in ("ids", "train_ids", "val_ids"))
    used = {*train, *val}
    ids = [i for i in every if i in used] if train else every
    times = _times(path / TIMES, ids)
    folder = f"rgb/{options.downscale_factor}x"
    if not (root / folder).is_dir():
        folder = "rgb/1x"
    if not (root / folder).is_dir():
        there = sorted(int(found.name[:-1]) for found in (root / "rgb").glob("*x") if found.name[:-1].isdecimal())
        way = f"; pass --downscale-factor {there[0]} for the largest pictures there are" if there else ""
        raise UserError(f"{path}: no pictures in {folder}{way}")
    cameras = [resolve(root, f"camera/{i}.json", str(file), options.allow_outside) for i in ids]
    frames = [_frame(camera, f"{folder}/{i}", times.get(i, 0.0)) for camera, i in zip(cameras, ids, strict=True)]
    tested = set(val) - set(train)
    split_of = {f"{folder}/{i}": "test" if i in tested else "train" for i in ids}
    return posed_photos("nerfies", frames, root, options, str(file), split_of=split_of if tested else None)


def _ids(content: Any, key: str, file: Path) -> list[str]:
    given = content.get(key, []) if isinstance(content, dict) else None
    if not isinstance(given, list) or not all(isinstance(i, str) for i in given) or (key == "ids" and not given):
        raise UserError(f"{file}: {key} must be a list of names, got {shown(given)}")
    return given


def _times(file: Path, ids: list[str]) -> dict[str, float]:
    """0 ... 1 of each ID; nothing where the file is missing or tells no time."""
    if not file.is_file():
        return {}
    content = json_files.content_of(file)
    steps = {}
    for i in ids:
        entry = content.get(i) if isinstance(content, dict) else None
        given = [entry[key] for key in STEPS if key in entry] if isinstance(entry, dict) else []
        if not given:
            return {}
        steps[i] = float(json_files.numbers(given[0], (), f"{file}: the time of {shown(i)}"))
    first, last = min(steps.values()), max(steps.values())
    return {i: (step - first) / max(last - first, 1.0) for i, step in steps.items()}


def _frame(file: Path, photo: str, time: float) -> Frame:
    camera = json_files.content_of(file)
    if not isinstance(camera, dict):
        raise UserError(f"{file}: expected an object with a camera, got {shown(camera)}")
    rows, position = _entry(camera, "orientation", (3, 3), file), _entry(camera, "position", (3,), file)
    try:
        return Frame(
            photo, str(file), from_opencv(rows.T, position), lens.parse(_lens(camera, file), {}, str(file)), time
        )
    except ValueError as error:
        raise UserError(f"{file}: orientation: {error}") from None


def _lens(camera: dict[str, Any], file: Path) -> dict[str, float]:
    """In the words of transforms.json."""
    focal = float(_entry(camera, "focal_length", (), file))
    aspect = float(_entry(camera, "pixel_aspect_ratio", (), file, 1.0))
    if float(_entry(camera, "skew", (), file, 0.0)):
        raise UserError(f"{file}: its pixels are skewed, which no lens here has")
    cx, cy = _entry(camera, "principal_point", (2,), file).tolist()
    w, h = _entry(camera, "image_size", (2,), file).tolist()
    radial = _entry(camera, "radial_distortion", (3,), file, [0.0] * 3).tolist()
    key = "tangential" if "tangential" in camera else "tangential_distortion"  # what Nerfies' own reader takes, too
    tangential = _entry(camera, key, (2,), file, [0.0] * 2).tolist()
    distortion = dict(zip(("k1", "k2", "k3", "p1", "p2"), radial + tangential, strict=True))
    return {"fl_x": focal, "fl_y": focal * aspect, "cx": cx, "cy": cy, "w": w, "h": h} | distortion


def _entry(camera: dict[str, Any], key: str, shape: tuple[int, ...], file: Path, default: Any = None) -> Array:
    return json_files.numbers(camera.get(key, default), shape, f"{file}: {key}")
