# SPDX-License-Identifier: Apache-2.0
"""The cameras of a run as a `transforms.json` of nerfstudio, which data/transforms.py and other tools read."""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from neurfield.data.options import SPLITS
from neurfield.data.views import Manifest, View
from neurfield.errors import UserError
from neurfield.files import atomic_write, refuse_existing

if TYPE_CHECKING:
    from neurfield.run import Run

_MODELS = {
    "pinhole": "PINHOLE",
    "opencv": "OPENCV",
    "opencv_fisheye": "OPENCV_FISHEYE",
    "equirectangular": "EQUIRECTANGULAR",
}
_DISTORTION = {"pinhole": "", "opencv": "k1 k2 k3 k4 p1 p2", "opencv_fisheye": "k1 k2 k3 k4", "equirectangular": ""}


def export_cameras(run: "Run", path: str | Path, data: str | None = None, overwrite: bool = False) -> bool:
    """Writes where the cameras of a run stand, with the lenses, splits, masks and times of its data.

    Poses are the run's, in the frame of the input, wherever the origin of the world is. The rest is read again from the
    data, of which images are not decoded: sizes are those of the image files, whatever `--downscale-factor` the run
    has. The map into unit space is written, too.

    Args:
        path: .json; images are named relative to its folder.
        data: where the images are now; None: where they were when the run was trained.
        overwrite: replace a file that exists.

    Returns:
        Whether all images lie in or below the folder of the file; others are read with `--allow-outside` only.

    Raises:
        UserError: another extension, a file that exists, data that cannot be read, are not those of the run or have no
            files.
        MachineError: the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() != ".json":
        raise UserError(f"{path}: cameras are written as .json, such as transforms.json")
    if path.name in {f"transforms_{split}.json" for split in SPLITS}:
        raise UserError(
            f"{path}: by that name it is one of three files of NeRF-synthetic; use another, as refined.json"
        )
    refuse_existing(path, overwrite)
    manifest = run.look_at_data(data)
    if any(view.path is None for view in manifest.views):
        raise UserError(f"{manifest.source}: its images lie in an archive and have no files that cameras could name")
    folder = path.absolute().parent.resolve()
    poses = run.cameras.c2w.double()
    poses[:, :, 3] += torch.tensor(manifest.normalization.origin, dtype=poses.dtype)
    content = _content(manifest, poses.tolist(), folder)
    with atomic_write(path) as file:
        file.write(json.dumps(content, indent=2).encode())
    return not any(name.startswith("../") for frame in content["frames"] for name in _files(frame))


def _files(frame: dict[str, Any]) -> list[str]:
    return [frame[key] for key in ("file_path", "mask_path") if key in frame]


def _content(manifest: Manifest, poses: list[list[list[float]]], folder: Path) -> dict[str, Any]:
    views, norm = manifest.views, manifest.normalization
    lenses = [_lens(view) for view in views]
    is_shared, is_timed = all(lens == lenses[0] for lens in lenses), any(view.time for view in views)
    names = [_name(view.path, folder) for view in views]
    frames = []
    for view, pose, lens, name in zip(views, poses, lenses, names, strict=True):
        frame: dict[str, Any] = {"file_path": name, "transform_matrix": [*pose, [0.0, 0.0, 0.0, 1.0]]}
        if view.mask is not None:
            frame["mask_path"] = _name(view.mask, folder)
        if is_timed:
            frame["time"] = view.time
        frames.append(frame if is_shared else frame | lens)
    content: dict[str, Any] = dict(lenses[0]) if is_shared else {}
    offset = [a - norm.scale * b for a, b in zip(norm.offset, norm.origin, strict=True)]
    content |= {"scale": norm.scale, "offset": offset, "aabb_scale": norm.aabb_scale}
    if manifest.applied_transform is not None:
        content["applied_transform"] = manifest.applied_transform.tolist()
    for split, members in manifest.splits.items():
        content[f"{split}_filenames"] = [names[i] for i in members]
    return content | {"frames": frames}


def _lens(view: View) -> dict[str, Any]:
    """Of the image as it is stored."""
    lens, header = view.intrinsics, view.header
    width, height = header.upright if view.upright else (header.width, header.height)
    sides = [value * view.shrink for value in (lens.fl_x, lens.fl_y, lens.cx, lens.cy)]
    if lens.is_panorama:
        sides = [width / 2, height, width / 2, height / 2]  # what nerfstudio calls its focal lengths
    keys = dict(zip(("fl_x", "fl_y", "cx", "cy"), sides, strict=True))
    distortion = dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), lens.distortion, strict=True))
    used = {key: distortion[key] for key in _DISTORTION[lens.model].split()}
    return {"camera_model": _MODELS[lens.model], "w": width, "h": height, **keys, **used}


def _name(path: Path | None, folder: Path) -> str:
    assert path is not None
    return Path(os.path.relpath(path.resolve(), folder)).as_posix()
