# SPDX-License-Identifier: Apache-2.0
"""`neurfield view`: a trained run, or the cameras and images of a data set, in the browser."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neurfield.data.options import LoadOptions, ReadOptions
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.training.run_folder import SUFFIX, RunFolder
from neurfield.viewer.options import ServeOptions

if TYPE_CHECKING:
    from neurfield.training.radiance_task import RadianceTask
    from neurfield.training.session import Session, ViewSet
    from neurfield.viewer import Live, Shown, Viewer


@dataclass(frozen=True)
class ViewOptions:
    what: tyro.conf.Positional[Path]
    """Run folder, .safetensors file, or data as `neurfield train` takes them."""
    serve: Annotated[ServeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ServeOptions)
    """Where the page is served."""
    load: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """How to read data; a run is read as it was trained."""


def run(options: ViewOptions) -> int:
    from neurfield.viewer import Viewer

    with Viewer(_shown(options), options.serve) as viewer, suppress(KeyboardInterrupt):
        _say_where(viewer)
        viewer.wait()
    return 0


@contextmanager
def watched(
    task: "RadianceTask", session: "Session", views: "ViewSet", manifest: Manifest, serve: ServeOptions
) -> Iterator["Live"]:
    """A viewer of a training: around it, and on until Ctrl-C when it has come to its end."""
    from neurfield.run import Run
    from neurfield.viewer import Live, Shown, Viewer
    from neurfield.viewer.photos import photos_of_data
    from neurfield.viewer.stages import stage_of

    trainer = session.trainer
    live = Live(trainer, session.save)
    photos = photos_of_data(manifest.source, manifest.options, views.paths)
    shown = Run(task.config, views, task.field, task.grid, trainer.step)
    stage = stage_of(shown, photos, lambda: trainer.step)
    with Viewer(Shown(views, photos, stage, shown), serve, live) as viewer:
        _say_where(viewer)
        with live:
            yield live
        viewer.refresh()
        if not trainer.interrupted:
            with suppress(KeyboardInterrupt):  # one that comes before `wait` ends the viewer as well
                print("the viewer goes on; Ctrl-C ends it", flush=True)
                viewer.wait()


def _say_where(viewer: "Viewer") -> None:
    """Prints the link, and from now on the connections that are refused."""
    logging.basicConfig(format="%(message)s")
    print(f"viewer: {viewer.url}", flush=True)
    port = viewer.gate.port
    print(f"from another machine: ssh -L {port}:localhost:{port} THIS_MACHINE, then open the link there", flush=True)


def _shown(options: ViewOptions) -> "Shown":
    from neurfield.run import load
    from neurfield.viewer import shown_data, shown_run

    what = options.what
    if what.suffix == SUFFIX or (what.is_dir() and RunFolder(what).checkpoints()):
        return shown_run(load(what))
    if not what.exists():
        raise UserError(f"{what}: no such run or data; expected a run folder, a {SUFFIX} file or a data folder")
    return shown_data(what, LoadOptions(**vars(options.load)))
