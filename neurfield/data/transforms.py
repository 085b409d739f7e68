# SPDX-License-Identifier: Apache-2.0
"""One `transforms.json` with all views, as instant-ngp and nerfstudio write it.

Splits: `train_filenames val_filenames test_filenames` if the file has them, otherwise every N-th of the views whose
images exist. Cameras stay in the file's frame; nerfstudio's `applied_transform` (capture to file) is kept.
"""

from pathlib import Path
from typing import Any

import numpy as np

from neurfield.cameras.poses import Array, rigid_pose
from neurfield.data import json_files, normalize, splits
from neurfield.data.options import SPLITS, LoadOptions
from neurfield.data.paths import data_name
from neurfield.data.views import Manifest, View, focus_of, inspect, is_cut_out, poses, tan_half_fov
from neurfield.errors import UserError


def detect(path: Path) -> bool:
    """A JSON file, or a folder with `transforms.json`."""
    return path.suffix.lower() == ".json" if path.is_file() else (path / "transforms.json").is_file()


def read(path: Path, options: LoadOptions) -> Manifest:
    """Looks at the data set without decoding it.

    Raises:
        UserError: see `json_files` and `views.inspect`.
    """
    file = path if path.is_file() else path / "transforms.json"
    root = file.parent.resolve()
    content = json_files.read(file)
    views, notes = inspect(json_files.frames(content, file), root, options, file.name)
    parts, split_notes = _splits(content, views, options, str(file))
    train = [views[i] for i in parts["train"]] or views
    chosen, reasons = normalize.from_poses(poses(train), tan_half_fov(train), is_cut_out(train[0]))
    chosen, reasons = normalize.apply_given(chosen, reasons, focus_of(train), content, options, str(file))
    notes = notes + split_notes + reasons
    transform = _applied_transform(content, file)
    return Manifest(data_name(path), "transforms", views, parts, chosen, notes, transform).only(options.splits)


def _splits(
    content: dict[str, Any], views: list[View], options: LoadOptions, where: str
) -> tuple[dict[str, list[int]], list[str]]:
    lists = {split: content.get(f"{split}_filenames") for split in SPLITS}
    given = {split: names for split, names in lists.items() if names is not None}
    for split, names in given.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{where}: {split}_filenames must be a list of paths")
    if any(given.values()):
        parts, unknown = splits.from_names([view.name for view in views], given, where)
        notes = [f"{len(unknown)} names of the file's splits have no view ({unknown[0]}, ...)"] if unknown else []
        return parts, notes
    parts = splits.every_nth(len(views), options.test_every)
    note = f"no splits in the file: every {options.test_every}th view is for testing" if options.test_every else None
    return parts, [note] if note else []


def _applied_transform(content: dict[str, Any], file: Path) -> Array | None:
    if content.get("applied_transform") is None:
        return None
    try:
        given = np.array(content["applied_transform"], dtype=np.float64)
        rigid_pose(given)
    except (TypeError, ValueError) as error:
        raise UserError(f"{file}: applied_transform: {error}") from None
    return given[:3]
