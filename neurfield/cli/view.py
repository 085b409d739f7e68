# SPDX-License-Identifier: Apache-2.0
"""`neurfield view`: a trained run, or the cameras and images of a data set, in the browser."""

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from neurfield.errors import UserError
from neurfield.training.run_folder import SUFFIX, RunFolder
from neurfield.viewer import ServeOptions, Shown, Viewer, shown_data, shown_run


@dataclass(frozen=True)
class ViewOptions:
    what: tyro.conf.Positional[Path]
    """Run folder, .safetensors file, or data as `neurfield train` takes them."""
    serve: Annotated[ServeOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ServeOptions)
    """Where the page is served."""


def run(options: ViewOptions) -> int:
    with Viewer(_shown(options.what), options.serve) as viewer:
        say_where(viewer)
        viewer.wait()
    return 0


def say_where(viewer: Viewer) -> None:
    """Prints the link, and from now on the connections that are refused."""
    logging.basicConfig(format="%(message)s")
    print(f"viewer: {viewer.url}", flush=True)
    port = viewer.gate.port
    print(f"from another machine: ssh -L {port}:localhost:{port} THIS_MACHINE, then open the link there", flush=True)


def _shown(what: Path) -> Shown:
    if is_run(what):
        from neurfield.run import load

        return shown_run(load(what))
    if not what.exists():
        raise UserError(f"{what}: no such run or data; expected a run folder, a {SUFFIX} file or a data folder")
    return shown_data(what)


def is_run(path: Path) -> bool:
    """Whether a path is a run, and not data."""
    return path.suffix == SUFFIX or (path.is_dir() and bool(RunFolder(path).checkpoints()))
