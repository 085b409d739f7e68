# SPDX-License-Identifier: Apache-2.0
"""The points that the training views of a field see, with their colours, as PLY."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from neurfield.cameras.cameras import Cameras
from neurfield.errors import UserError
from neurfield.files import refuse_existing
from neurfield.geometry import Mesh, write_mesh
from neurfield.progress import Progress, silent
from neurfield.rendering.color import to_bytes
from neurfield.rendering.outputs import SOLID
from neurfield.rendering.renderer import image_rays

if TYPE_CHECKING:
    from neurfield.run import Run

MAX_POINTS = 100_000_000
_MAX_VIEWS = 48
_TILE_RAYS = 1 << 15
_PROBE_SIDE = 64  # pixels of small pictures that tell how much of the views is opaque
_MARGIN = 1.2  # rays more than that share asks for


def checked_path(path: str | Path, n_points: int, overwrite: bool) -> Path:
    """Where `n_points` points may be written, or a UserError."""
    path = Path(path)
    if path.suffix.lower() != ".ply":
        raise UserError(f"{path}: point clouds are written as .ply")
    if not 1 <= n_points <= MAX_POINTS:
        raise UserError(f"--num-points must be 1 ... {MAX_POINTS}, got {n_points}")
    refuse_existing(path, overwrite)
    return path


def export_point_cloud(
    run: "Run",
    path: str | Path,
    n_points: int = 1_000_000,
    overwrite: bool = False,
    progress: Progress = silent,
) -> int:
    """Renders training views and writes where their rays end.

    Args:
        run: trained.
        path: .ply.
        n_points: about so many, at most; those of pixels that are opaque, drawn evenly.
        overwrite: replace a file that exists.
        progress: called with the fraction done; what it raises ends the work.

    Returns:
        The number of points.

    Raises:
        UserError: another extension, a number out of range, a file that exists, a field in which no ray ends.
        MachineError: the disk refuses.
    """
    path = checked_path(path, n_points, overwrite)
    views = run.views.train
    views = views[:: -(-len(views) // _MAX_VIEWS)]
    n_rays = _MARGIN * n_points / max(_opaque_share(run, views), 1e-3)
    positions, colors = [], []
    for i, view in enumerate(views):
        camera = run.cameras[view]
        camera = _no_larger(camera, (n_rays / len(views) / float(camera.sizes[0].prod())) ** 0.5)

        def step(part: float, i: int = i) -> None:
            progress((i + part) / len(views))

        result = run.renderer.render(camera, ("rgb", "depth", "accumulation"), step, _TILE_RAYS)
        solid = result["accumulation"].reshape(-1) >= SOLID
        origins, directions = image_rays(camera, 0, int(camera.sizes[0, 1]))
        places = origins + directions * result["depth"].reshape(-1, 1)
        # over the background a pixel's colour is the field's and the background's; only the field's is wanted
        acc = result["accumulation"].reshape(-1, 1)
        own = (result["rgb"].reshape(-1, 3) - (1 - acc) * run.renderer.background) / acc.clamp_min(SOLID)
        positions.append(places[solid])
        colors.append(own[solid])
    all_places, all_colors = torch.cat(positions), torch.cat(colors)
    if not len(all_places):
        raise UserError("the field is empty: no ray of the training views ends anywhere; train longer")
    chosen = _spread(min(n_points, len(all_places)), len(all_places))
    mesh = Mesh(
        all_places[chosen].double().numpy(),
        np.empty((0, 3), np.int64),
        colors=to_bytes(all_colors[chosen]).numpy(),
        metadata={"frame": "world", "origin": run.views.normalization.origin},
    )
    write_mesh(mesh, path)
    return len(chosen)


def _opaque_share(run: "Run", views: Sequence[int]) -> float:
    """How much of the pixels of some views is opaque, 0 ... 1."""
    n_pixels = n_opaque = 0
    for view in views:
        camera = _no_larger(run.cameras[view], 0.0)
        opacity = run.renderer.render(camera, ("accumulation",), tile_rays=_TILE_RAYS)["accumulation"]
        n_pixels, n_opaque = n_pixels + opacity.numel(), n_opaque + int((opacity >= SOLID).sum())
    return n_opaque / n_pixels


def _no_larger(camera: Cameras, factor: float) -> Cameras:
    """Pictures scaled by `factor`, no larger than they are and no smaller than those that are asked first."""
    factor = max(factor, _PROBE_SIDE / float(camera.sizes[0].max()))
    return camera.resized(factor) if factor < 1 else camera


def _spread(n: int, n_all: int) -> torch.Tensor:
    """`n` different numbers, evenly from the first to the last of `n_all`; float32 counts no further than 2^24."""
    return torch.linspace(0, n_all - 1, n, dtype=torch.float64).long()
