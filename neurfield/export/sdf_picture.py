# SPDX-License-Identifier: Apache-2.0
"""Pictures of a signed distance field: one as PNG, a turn around it as a video."""

from pathlib import Path

from PIL import Image
from torch import nn

from neurfield.cameras.paths import check_orbit
from neurfield.errors import UserError
from neurfield.files import atomic_path
from neurfield.progress import Progress, silent
from neurfield.rendering.sphere_trace import picture
from neurfield.rendering.video import DEFAULT_FPS, SUFFIXES, VideoWriter, check_fps

MAX_SIDE = 16384


def write_sdf_picture(
    field: nn.Module,
    size: tuple[int, int],
    n_views: int,
    elevation: float,
    path: Path,
    progress: Progress = silent,
    fps: float = DEFAULT_FPS,
) -> None:
    """Sphere-traces `n_views` views of a turn at (width, height) into a .png (one view) or a video.

    Raises:
        UserError: a suffix, size, elevation, number of views or of pictures a second that does not fit.
        MachineError: the disk refuses.
    """
    width, height = size
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise UserError(f"--resolution: expected 1 ... {MAX_SIDE} pixels a side, got {width} x {height}")
    check_orbit(n_views, elevation)
    check_fps(fps)
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        with atomic_path(path) as temporary, VideoWriter(temporary, fps) as writer:
            for view in range(n_views):
                writer.add(picture(field, width, height, 360 * view / n_views, elevation))
                progress((view + 1) / n_views)
        return
    if suffix != ".png" or n_views != 1:
        raise UserError(f"{path}: a picture of a shape is a .png, a turn around it (--orbit N) a {', '.join(SUFFIXES)}")
    with atomic_path(path) as temporary:
        Image.fromarray(picture(field, width, height, 30.0, elevation).numpy()).save(temporary)
    progress(1.0)
