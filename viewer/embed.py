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

from neurfield.data.options import LoadOptions
from neurfield.errors import UserError
from neurfield.run import Run, load
from neurfield.training.session import ViewSet
from neurfield.viewer.options import ServeOptions
from neurfield.viewer.photos import photos_of_data
from neurfield.viewer.server import Shown, Viewer, history_of
from neurfield.viewer.stages import stage_of


def shown_run(run: object) -> Shown:
    """What a viewer shows of a trained run.

    Raises:
        UserError: a run of a kind that has no view yet, or no run.
    """
    if not isinstance(run, Run):
        kind = type(run).__name__
        raise UserError(f"expected the run of a radiance field, got {kind}, which has no view yet")
    photos = photos_of_data(run.config.data or "", run.config.load, run.views.paths)
    history = history_of(run.path.parents[1]) if run.path is not None else ()
    return Shown(run.views, photos, stage_of(run, photos), run, history)


def shown_data(path: str | Path, options: LoadOptions | None = None) -> Shown:
    """What a viewer shows of a data set: cameras and images.

    Raises:
        UserError: as neurfield.load_scene.
    """
    from neurfield.data.load import cameras, read_manifest

    manifest = read_manifest(path, options)
    paths = [str(view.path or view.name) for view in manifest.views]
    splits = {name: list(members) for name, members in manifest.splits.items()}
    views = ViewSet(manifest.name, cameras(manifest.views), splits, manifest.normalization, paths)
    return Shown(views, photos_of_data(manifest.source, manifest.options, paths))


def open_viewer(run: Run | str | Path, **options: object) -> Viewer:
    """Starts a viewer of a run, or of a run folder, and returns it; options as ServeOptions.

    Raises:
        UserError: see Viewer; nothing that can be shown.
    """
    shown = shown_run(load(run) if isinstance(run, str | Path) else run)
    return Viewer(shown, ServeOptions(**{"next_port": True, **options}))  # type: ignore[arg-type]


def show(run: Run | str | Path, height: int = 600, **options: object) -> Viewer:
    """Opens a viewer of a run.

    Args:
        run: trained or loaded, or the folder of one.
        height: of the page in a notebook, pixels.
        **options: as ServeOptions; the next free port is taken unless `next_port=False`.

    Returns:
        The viewer. `viewer.close()` ends it.

    Raises:
        UserError: see Viewer; nothing that can be shown.
    """
    viewer = open_viewer(run, **options)
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
