# SPDX-License-Identifier: Apache-2.0
"""neurfield: fit neural fields to data, render, convert and export them, with and without a GPU.

    scene = neurfield.load_scene("data/lego")
    run = neurfield.train(scene, max_seconds=60)
    print(run.evaluate("test")["psnr"])
    image = run.render(scene.cameras[0])["rgb"]
    run.export_mesh("lego.glb")

Names are imported when they are first used, so that `import neurfield` itself costs nothing
(where torch was imported before, the start of a few threads: neurfield.waiting).
"""

from importlib import import_module
from typing import Any

from neurfield.huge_pages import ask_for_huge_pages
from neurfield.waiting import let_threads_sleep

ask_for_huge_pages()
let_threads_sleep()

__version__ = "0.1.0"

# public name: the module that defines it
_PUBLIC = {
    "Cameras": "neurfield.cameras.cameras",
    "LoadOptions": "neurfield.data.options",
    "MachineError": "neurfield.errors",
    "RadianceField": "neurfield.fields.radiance_field",
    "RadianceTask": "neurfield.training.radiance_task",
    "Run": "neurfield.run",
    "Scene": "neurfield.data.scene",
    "SignalRun": "neurfield.signal_run",
    "Trainer": "neurfield.training.trainer",
    "UserError": "neurfield.errors",
    "interpolate": "neurfield.cameras.paths",
    "load": "neurfield.run",
    "load_method": "neurfield.training.method",
    "load_scene": "neurfield.data",
    "orbit": "neurfield.cameras.paths",
    "read_camera_path": "neurfield.cameras.path_files",
    "train": "neurfield.run",
    "train_signal": "neurfield.signal_run",
}
_PACKAGES = ("encodings", "fresh", "losses", "metrics", "nerfacc", "networks", "ops", "tcnn", "viewer")
__all__ = ["__version__", *sorted(_PUBLIC)]


def __getattr__(name: str) -> Any:
    if name in _PACKAGES:
        return import_module(f"neurfield.{name}")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurfield' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC, *_PACKAGES})
