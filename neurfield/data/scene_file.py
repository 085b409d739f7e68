# SPDX-License-Identifier: Apache-2.0
"""Scene files (`scenes/*.yaml`): where a data set lies and how it is to be read, in a few lines of YAML."""

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from neurfield import config
from neurfield.config import Range
from neurfield.data.options import ReadOptions
from neurfield.errors import UserError


@dataclass(frozen=True)
class SceneFile:
    """Keys of a scene file; those of ReadOptions mean the same. `path` is relative to the scene file."""

    path: str
    name: str | None = None
    format: str | None = None
    downscale_factor: Annotated[int, Range(1)] | None = None
    test_every: Annotated[int, Range(0)] | None = None
    max_megapixels: Annotated[float, Range(0)] | None = None
    allow_outside: bool = False
    scale: Annotated[float, Range(0)] | None = None
    offset: tuple[float, ...] | None = None
    aabb_scale: Annotated[int, Range(1, 128)] | None = None
    depth_unit_scale_factor: Annotated[float, Range(0)] | None = None


def is_scene_file(path: Path) -> bool:
    """By its suffix: `.yaml` or `.yml`."""
    return path.suffix.lower() in (".yaml", ".yml")


def read(file: Path) -> tuple[Path, str, ReadOptions]:
    """Path of the data, name of the scene and options.

    Raises:
        UserError: unknown or duplicate keys, values that do not fit (with file and line), no data at `path`.
    """
    scene = config.load(SceneFile, file)
    path = file.parent / scene.path
    if not os.path.exists(path):  # false, not an error, for names that no file can have
        raise UserError(f"{file}: no data at {path}")
    if is_scene_file(path):
        raise UserError(f"{file}: path must be a data set, not another scene file ({path})")
    values = asdict(scene)
    del values["path"], values["name"]
    try:
        return path, scene.name or file.stem, ReadOptions(**values)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
