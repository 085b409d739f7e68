# SPDX-License-Identifier: Apache-2.0
"""Flags of commands that mean something for scenes only."""

from pathlib import Path

from neurfield.data.options import ReadOptions
from neurfield.errors import UserError


def refuse_scene_options(load: ReadOptions, data: Path, kind: str) -> None:
    """Raises UserError for a flag about scenes that was given with a single file of the kind `kind`."""
    for name in load.wishes():
        if name != "max_megapixels":
            flag = "--" + name.replace("_", "-")
            raise UserError(f"{flag} is for scenes, and {data} is of the kind {kind}; leave it out")
