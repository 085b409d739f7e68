# SPDX-License-Identifier: Apache-2.0
"""Data sets: `load_scene` reads what `FORMATS` lists; scenes are described in `scene.py`."""

from neurfield.data.load import FORMATS, MemoryPlan, decode, load_scene, plan_memory, read_manifest
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Normalization, Scene
from neurfield.data.views import Manifest

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
