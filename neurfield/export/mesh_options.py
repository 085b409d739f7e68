# SPDX-License-Identifier: Apache-2.0
"""What the exports of meshes from densities and from distances accept alike."""

import math
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from neurfield.errors import UserError
from neurfield.geometry.mesh_files import check_format
from neurfield.registry import lookup

MAX_RESOLUTION = 4096  # cells along the longest side
MIN_TRIANGLES = 100
TEXTURE_SIZES = (64, 8192)  # texels along the side
FRAMES = {"world": "of the input", "unit": "of the field itself"}


def check_mesh_export(
    path: Path,
    resolution: int,
    min_component: float,
    frame: str,
    max_triangles: int | None = None,
    texture: int | None = None,
) -> None:
    """Raises UserError for an unknown extension or frame, numbers out of range, and libraries that are missing."""
    check_format(path)
    lookup(FRAMES, frame, "frame")
    if not _is_within(resolution, Integral, 8, MAX_RESOLUTION):
        raise UserError(f"--resolution must be 8 ... {MAX_RESOLUTION}, got {resolution!r}")
    if not _is_within(min_component, Real, 0, 1):
        raise UserError(f"--min-component must be 0 ... 1, got {min_component!r}")
    if max_triangles is not None and not _is_within(max_triangles, Integral, MIN_TRIANGLES, math.inf):
        raise UserError(f"--max-triangles must be at least {MIN_TRIANGLES}, got {max_triangles!r}")
    if texture is not None and not _is_within(texture, Integral, *TEXTURE_SIZES):
        raise UserError(f"--texture must be {TEXTURE_SIZES[0]} ... {TEXTURE_SIZES[1]} texels a side, got {texture!r}")
    needed = {"fast_simplification": max_triangles is not None or texture is not None, "xatlas": texture is not None}
    for library in (name for name, is_needed in needed.items() if is_needed and find_spec(name) is None):
        raise UserError(
            f"--max-triangles and --texture need {library}, which is not installed: pip install 'neurfield[mesh]'"
        )


def _is_within(value: Any, kind: type, low: float, high: float) -> bool:
    """Whether a value, from Python any, is a number of that kind in that range."""
    is_kind = isinstance(value, kind)  # apart, as mypy would make an object of the value
    return is_kind and bool(low <= value <= high)
