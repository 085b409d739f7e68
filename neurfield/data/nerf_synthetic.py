# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of NeRF-synthetic: `transforms_{train,val,test}.json`, paths without suffix, RGBA."""

from pathlib import Path

import numpy as np

from neurfield.data import json_files, normalize
from neurfield.data.options import SPLITS, LoadOptions
from neurfield.data.paths import data_name
from neurfield.data.transforms import is_cut_out
from neurfield.data.views import Manifest, View, inspect
from neurfield.errors import UserError


def detect(path: Path) -> bool:
    """A folder with `transforms_train.json`, or one of its three files."""
    if path.is_file():
        return path.name in {f"transforms_{split}.json" for split in SPLITS}
    return (path / "transforms_train.json").is_file()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it; images of splits that were not asked for are not touched.

    Raises:
        UserError: see `json_files` and `views.inspect`.
    """
    root = (path.parent if path.is_file() else path).resolve()
    views: list[View] = []
    parts: dict[str, list[int]] = {}
    notes: list[str] = []
    timed: dict[bool, str] = {}
    for split in {"train": None, **dict.fromkeys(options.splits)}:  # others are not touched
        file = root / f"transforms_{split}.json"
        if file.is_file() and (entries := json_files.read(file)["frames"]):
            timed[isinstance(entries[0], dict) and "time" in entries[0]] = file.name
    if len(timed) > 1:
        raise UserError(f"{root}: the frames of {timed[True]} have a time, those of {timed[False]} none; give all one")
    for split in options.splits:
        file = root / f"transforms_{split}.json"
        found: list[View] = []
        if file.is_file():
            found, found_notes = inspect(json_files.frames(json_files.read(file), file), root, options, file.name)
            notes += found_notes
        parts[split] = list(range(len(views), len(views) + len(found)))
        views += found
    if not views:
        raise UserError(
            f"{root}: no views in {' or '.join(options.splits)}; there is no transforms_{options.splits[0]}.json"
        )
    file = root / "transforms_train.json"
    content = json_files.read(file)
    frames = json_files.frames(content, file)  # so that the map is the same whichever splits are read
    if not frames:
        raise UserError(f"{file}: no frames, expected at least one view")
    train = np.stack([frame.c2w for frame in frames])
    tangents = np.broadcast_to(views[0].intrinsics.tan_half_fov, (len(frames), 2))
    chosen, reasons = normalize.synthetic(train, tangents, is_cut_out(views[0]))
    chosen, reasons = normalize.apply_given(chosen, reasons, train, content, options, str(file))
    return Manifest(data_name(path), "nerf_synthetic", views, parts, chosen, notes + reasons)
