# SPDX-License-Identifier: Apache-2.0
"""Data sets: `load_scene` reads what `FORMATS` lists; scenes are described in `scene.py`.

Names are imported when they are first used: the command line's help reads the options without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurfield.data.load import FORMATS, MemoryPlan, decode, load_scene, plan_memory, read_manifest
    from neurfield.data.options import LoadOptions
    from neurfield.data.scene import Normalization, Scene
    from neurfield.data.views import Manifest

_PUBLIC = {
    "FORMATS": "load",
    "LoadOptions": "options",
    "Manifest": "views",
    "MemoryPlan": "load",
    "Normalization": "scene",
    "Scene": "scene",
    "decode": "load",
    "load_scene": "load",
    "plan_memory": "load",
    "read_manifest": "load",
}
__all__ = [
    "FORMATS",
    "LoadOptions",
    "Manifest",
    "MemoryPlan",
    "Normalization",
    "Scene",
    "decode",
    "load_scene",
    "plan_memory",
    "read_manifest",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurfield.data' has no attribute {name!r}")
    return getattr(import_module(f"neurfield.data.{_PUBLIC[name]}"), name)
