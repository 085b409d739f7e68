# SPDX-License-Identifier: Apache-2.0
"""Flags of commands that mean something for scenes only."""

import dataclasses
from pathlib import Path

from neurfield.data.options import ReadOptions
from neurfield.errors import UserError


def refuse_scene_options(load: ReadOptions, data: Path, kind: str) -> None:
    """Raises UserError for a flag about scenes that was given with a single file of the kind `kind`."""
    default = ReadOptions()
    for field in dataclasses.fields(ReadOptions):
        if field.name != "max_megapixels" and getattr(load, field.name) != getattr(default, field.name):
            flag = "--" + field.name.replace("_", "-")
            raise UserError(f"{flag} is for scenes, and {data} is of the kind {kind}; leave it out")
