# SPDX-License-Identifier: Apache-2.0
"""`neurfield export web`: a trained scene as one HTML file that draws the field itself, with WebGL 2, in any browser.

Nothing is baked: table, networks and occupancy of the field are in the page, and its shader (web_shader.py) is the
renderer's formulas, so a view there is what `neurfield render` gives, up to roundings; a field that moves plays. The
page loads nothing and is served by nothing: it can be mailed, hosted or opened from a disk.
"""

import base64
import html
import json
import zlib
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

import numpy as np

import neurfield
from neurfield.cameras.poses import up
from neurfield.errors import UserError
from neurfield.export.morton import raster
from neurfield.export.web_field import WebField
from neurfield.export.web_shader import resource, shader
from neurfield.files import atomic_write, refuse_existing

if TYPE_CHECKING:
    from neurfield.run import Run

_SECONDS = 4  # in which the time runs from 0 to 1, as in the viewer


def export_web(run: "Run", path: str | Path, overwrite: bool = False) -> Path:
    """Writes a page in which one looks around in a trained scene; it begins with the first training view
    that is no panorama (`Cameras.opening`).

    Args:
        run: trained; one that tells photos apart in the mean look, unless it is of another (`run.at(None, look)`).
        path: .html.
        overwrite: replace a file that exists.

    Raises:
        UserError: another extension, a file that exists, a field that no page can draw (WebField).
        MachineError: the disk refuses.
    """
    path = Path(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise UserError(f"{path}: a web page is written as .html")
    refuse_existing(path, overwrite)
    run = run.on_cpu()
    page = _page(run, path.stem)
    with atomic_write(path) as file:
        file.write(page.encode())
    return path


def _page(run: "Run", title: str) -> str:
    field = WebField.of(run.field)
    made = shader(field, run.grid, run.renderer.options)
    background = run.renderer.background.tolist()
    scene = {
        "shader": made.source,
        "blocks": [(name, tiles.nbytes) for name, tiles in made.blocks.items()],
        "texel": made.texel,
        "box_low": field.low,
        "box_scale": field.inverse_size,
        "background": background,
        "seconds": None if field.time_scale is None else _SECONDS,
        **_view(run),
    }
    data = {
        "table": field.table.numpy(),
        "cells": np.stack([raster(cascade) for cascade in run.grid.bitfield.numpy()]),
        "blocks": run.grid.coarse.numpy(),
        "weights": np.concatenate([tiles.reshape(-1) for tiles in made.blocks.values()]),
    }
    return Template(resource("page.html")).substitute(
        version=neurfield.__version__,
        title=html.escape(title),
        color="#" + "".join(f"{round(255 * channel):02x}" for channel in background),
        scene=json.dumps(scene).replace("<", "\\u003c"),
        data="\n".join(
            f'<script id="{name}" type="text/plain">{_packed(values)}</script>' for name, values in data.items()
        ),
        script=resource("clock.js") + resource("page.js"),
    )


def _view(run: "Run") -> dict[str, object]:
    """What the page begins with, in unit space, and how it may move from there."""
    norm = run.views.normalization
    cameras = norm.in_unit(run.cameras[run.views.train])
    poses = cameras.c2w.double().numpy()
    view, ahead = cameras.opening(1.0)
    right, up_of_view, back, position = poses[view].T
    axes = {"right": right, "up": up_of_view, "back": back, "position": position}
    return {
        "view": {**{name: axis.tolist() for name, axis in axes.items()}, "ahead": ahead},
        "fov": cameras.shown_extents[view].tolist(),  # width and height at distance one
        "up": up(poses),
    }


def _packed(values: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()
