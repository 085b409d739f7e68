# SPDX-License-Identifier: Apache-2.0
"""The viewer from Python.

    import neurfield, neurfield.viewer
    run = neurfield.load("outputs/lego/ngp-fast/2026-01-01_120000")
    neurfield.viewer.show(run)

In a notebook the page appears below the cell and the cell ends at once; elsewhere the link is printed, and `show`
returns when the viewer is closed, or on Ctrl-C.
"""

import sys
from importlib import import_module
from pathlib import Path

import torch
from torch import nn

from neurfield.data import signals
from neurfield.data.load import detected, read_manifest
from neurfield.data.options import LoadOptions, ReadOptions
from neurfield.errors import UserError
from neurfield.files import check_readable
from neurfield.run import Run, load
from neurfield.signal_run import SignalRun
from neurfield.training.run_folder import SUFFIX, RunFolder, run_below
from neurfield.viewer.bare import shown_field
from neurfield.viewer.options import ServeOptions
from neurfield.viewer.server import Viewer
from neurfield.viewer.show_scene import scene_data
from neurfield.viewer.shown import Shown
from neurfield.viewer.stages import SIGNALS, shown_run

Showable = Run | SignalRun | nn.Module | str | Path


def shown_data(path: str | Path, options: ReadOptions | None = None) -> Shown:
    """What a viewer shows of data before there is a field: the views of a scene, or a picture, mesh, clip or volume.

    Raises:
        UserError: as neurfield.load_scene and neurfield.data.signals.read.
    """
    kind = signals.kind_of(Path(path))
    if kind is None:
        return scene_data(read_manifest(path, options))
    load = (options or ReadOptions()).over(LoadOptions())
    return SIGNALS[kind].data(signals.read(Path(path), kind, load.max_megapixels))


def shown_path(path: str | Path, options: ReadOptions | None = None, device: str | torch.device | None = None) -> Shown:
    """What a viewer shows of a path: a run, or data; `device`: where a run's field is evaluated.

    Raises:
        UserError: nothing there, or nothing that can be read.
    """
    path = Path(path)
    check_readable(path)
    if path.suffix == SUFFIX or (path.is_dir() and RunFolder(path).checkpoints()):
        run = load(path)
        if device is not None:
            run.to(device)
        return shown_run(run)
    if not path.exists():
        raise UserError(f"{path}: no such run or data; expected a run folder, a {SUFFIX} file, a data folder or a file")
    if path.is_dir() and detected(path) is None and (hint := run_below(path)):
        raise UserError(f"{path}: neither a run nor a data set{hint}")
    return shown_data(path, options)


def open_viewer(what: Showable, *, kind: str | None = None, aabb_scale: int = 1, **options: object) -> Viewer:
    """Starts a viewer and returns it; arguments as of `show`.

    Raises:
        UserError: see Viewer; nothing that can be shown.
    """
    if not isinstance(what, Run | SignalRun | str | Path):
        shown = shown_field(what, kind, aabb_scale)
    elif kind is not None or aabb_scale != 1:
        raise UserError("kind and aabb_scale are for fields alone; runs and data know their own")
    else:
        shown = shown_path(what) if isinstance(what, str | Path) else shown_run(what)
    return Viewer(shown, ServeOptions(**{"next_port": True, **options}))  # type: ignore[arg-type]


def show(
    what: Showable, height: int = 600, *, kind: str | None = None, aabb_scale: int = 1, **options: object
) -> Viewer:
    """Opens a viewer of a run, a field or data.

    Args:
        what: a run, trained or loaded; the path of a run or of data, as for `neurfield view`; or a field alone, of
            radiance or of a signal.
        height: of the page in a notebook, pixels.
        kind: of the field of a signal in three dimensions, alone: "sdf", "occupancy", "video" or "volume".
        aabb_scale: of a radiance field alone: the side of its box in unit space, a power of two.
        **options: as ServeOptions; the next free port is taken unless `next_port=False`.

    Returns:
        The viewer. `viewer.close()` ends it.

    Raises:
        UserError: see Viewer; nothing that can be shown.
    """
    viewer = open_viewer(what, kind=kind, aabb_scale=aabb_scale, **options)
    if _in_notebook():
        notebook = import_module("IPython.display")
        notebook.display(notebook.IFrame(viewer.url, width="100%", height=height))
        return viewer
    print(f"viewer: {viewer.url}", flush=True)
    with viewer:
        viewer.wait()
    return viewer


def _in_notebook() -> bool:
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and type(shell).__name__ == "ZMQInteractiveShell"
