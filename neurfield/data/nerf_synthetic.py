# SPDX-License-Identifier: Apache-2.0
"""Folders in the layout of NeRF-synthetic: `transforms_{train,val,test}.json`, paths without suffix, RGBA."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurfield.cameras.poses import focus
from neurfield.data import json_files, normalize
from neurfield.data.options import SPLITS, LoadOptions
from neurfield.data.paths import data_name
from neurfield.data.views import Manifest, View, inspect, is_cut_out
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
    files = {split: root / f"transforms_{split}.json" for split in ("train", *options.splits)}  # others are not touched
    contents = {split: json_files.read(file) for split, file in files.items() if file.is_file()}
    _check_times(root, contents)
    for split in options.splits:
        found: list[View] = []
        if split in contents:
            file = files[split]
            found, found_notes = inspect(json_files.frames(contents[split], file), root, options, file.name)
            notes += found_notes
        parts[split] = list(range(len(views), len(views) + len(found)))
        views += found
    if not views:
        raise UserError(
            f"{root}: no views in {' or '.join(options.splits)}; there is no transforms_{options.splits[0]}.json"
        )
    file = files["train"]
    content = contents["train"] if "train" in contents else json_files.read(file)
    frames = json_files.frames(content, file)  # so that the map is the same whichever splits are read
    if not frames:
        raise UserError(f"{file}: no frames, expected at least one view")
    train = np.stack([frame.c2w for frame in frames])
    whole = views[0].header.upright  # of which a lens without a size is, however small the images are read
    tangents = np.array([frame.lens.at(*(frame.lens.size or whole)).tan_half_fov for frame in frames])
    chosen, reasons = normalize.synthetic(train, tangents, is_cut_out(views[0]))
    seen = focus(train, normalize.is_panorama(tangents))
    chosen, reasons = normalize.apply_given(chosen, reasons, seen, content, options, str(file))
    return Manifest(data_name(path), "nerf_synthetic", views, parts, chosen, notes + reasons)


def _check_times(root: Path, contents: Mapping[str, Any]) -> None:
    """Refuses splits of which only some have times; within a file that is refused where its frames are read."""
    timed: dict[bool, str] = {}
    for split, content in contents.items():
        if content["frames"]:
            first = content["frames"][0]
            timed[isinstance(first, dict) and first.get("time") is not None] = f"transforms_{split}.json"
    if len(timed) > 1:
        raise UserError(f"{root}: the frames of {timed[True]} have a time, those of {timed[False]} none; give all one")
