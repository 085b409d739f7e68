# SPDX-License-Identifier: Apache-2.0
"""What the exports of meshes from densities and from distances accept alike."""

from pathlib import Path

from neurfield.errors import UserError
from neurfield.geometry import WRITERS
from neurfield.registry import lookup

MAX_RESOLUTION = 4096  # cells along the longest side
FRAMES = {"world": "of the input", "unit": "of the field itself"}


def check_mesh_export(path: Path, resolution: int, min_component: float, frame: str) -> None:
    """Raises UserError for an unknown extension or frame and for numbers out of range."""
    lookup(WRITERS, path.suffix.lower(), "mesh format")
    lookup(FRAMES, frame, "frame")
    if not 8 <= resolution <= MAX_RESOLUTION:
        raise UserError(f"--resolution must be 8 ... {MAX_RESOLUTION}, got {resolution}")
    if not 0 <= min_component <= 1:
        raise UserError(f"--min-component must be 0 ... 1, got {min_component:g}")
