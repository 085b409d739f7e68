# SPDX-License-Identifier: Apache-2.0
"""`neurfield view`: a trained run, or data before there is a field, in the browser."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from neurfield.cli._signal_options import refuse_scene_options
from neurfield.data.options import ReadOptions
from neurfield.data.signals import kind_of
from neurfield.viewer.options import ServeOptions

if TYPE_CHECKING:
    from neurfield.run import Run
    from neurfield.signal_run import SignalRun
    from neurfield.training.session import Session
    from neurfield.viewer import Live, Viewer


@dataclass(frozen=True)
class ViewOptions:
    what: tyro.conf.Positional[Path]
    """Run folder, .safetensors file, or data as `neurfield train` takes them: a scene, an image, a mesh, a video, a
    volume."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the field is evaluated: auto is CUDA where it can be used."""
    serve: Annotated[ServeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ServeOptions)
    """Where the page is served."""
    load: Annotated[ReadOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ReadOptions)
    """How to read data; a run is read as it was trained."""


def run(options: ViewOptions) -> int:
    from neurfield.viewer import Viewer, shown_path

    if kind := kind_of(options.what):
        refuse_scene_options(options.load, options.what, kind)
    with (
        Viewer(shown_path(options.what, options.load, options.device), options.serve) as viewer,
        suppress(KeyboardInterrupt),
    ):
        _say_where(viewer)
        viewer.wait()
    return 0


@contextmanager
def watched(
    run: "Run | SignalRun",
    data: object,
    session: "Session",
    serve: ServeOptions,
    is_first: bool = True,
    is_last: bool = True,
) -> Iterator["Live"]:
    """A viewer of a training: around it, and on until Ctrl-C when it has come to its end.

    Args:
        run: the field as it is being trained.
        data: see neurfield.viewer.shown_run.
        is_first: say where the viewer is.
        is_last: go on at the end; otherwise pages wait for the next viewer on the same port.
    """
    from neurfield.viewer import Live, Viewer, shown_run

    trainer = session.trainer
    live = Live(trainer, session.save)
    with Viewer(shown_run(run, data, lambda: trainer.step), serve, live) as viewer:
        if is_first:
            _say_where(viewer)
        with live:
            yield live
        if is_last and not trainer.interrupted:
            viewer.refresh()
            go_on(viewer)


def go_on(viewer: "Viewer") -> None:
    """Says that the viewer goes on when everything else is done, and waits for Ctrl-C."""
    with suppress(KeyboardInterrupt):  # one that comes before `wait` ends the viewer as well
        print("the viewer goes on; Ctrl-C ends it", flush=True)
        viewer.wait()


def _say_where(viewer: "Viewer") -> None:
    """Prints the link, and from now on the connections that are refused."""
    logging.basicConfig(format="%(message)s")
    print(f"viewer: {viewer.url}", flush=True)
    port = viewer.gate.port
    tunnel = f"ssh -L {port}:localhost:{port} THIS_MACHINE, then open the link there"
    print(f"from another machine: {viewer.far_url or tunnel}", flush=True)
