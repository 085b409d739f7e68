# SPDX-License-Identifier: Apache-2.0
"""`neurfield doctor`: what is installed, which backend and instruction set is used, why not CUDA, and a self-test."""

import importlib.metadata
import math
import os
import platform
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.torch_version import TorchVersion  # compares any versions as pip does

from neurfield import __version__, _native
from neurfield.cli._self_test import SELF_TESTS
from neurfield.errors import MachineError
from neurfield.memory import available_bytes, readable
from neurfield.training.device import cuda_build, why_not_auto

# distribution: what works with it; those that pyproject.toml depends on, then those that add something
PACKAGES = {
    "torch": "operators and training",
    "numpy": "arrays",
    "pyyaml": "configuration",
    "pillow": "images",
    "av": "videos, images with 16-bit colours",
    "OpenEXR": "EXR images and depths",
    "tyro": "the command line",
    "rich": "progress and reports",
    "viser": "the viewer",
    "websockets": "the viewer's connections",
    "fast-simplification": "meshes of fewer triangles (optional)",
    "lpips": "the LPIPS metric (optional)",
    "nerfacc": "samplers with backend: nerfacc (optional)",
    "nibabel": "NIfTI volumes (optional)",
    "pi-heif": "HEIC photos for `process` (optional)",
    "pycolmap": "cameras of photos, `process` (optional)",
    "tensorboard": "looking at the scalar log (optional)",
    "tinycudann": "blocks with backend: tcnn (optional)",
    "trimesh": "reading meshes (optional)",
    "xatlas": "meshes with textures (optional)",
}
MISSING = "missing"


@dataclass(frozen=True)
class DoctorOptions:
    """No options."""


def run(options: DoctorOptions) -> int:
    print(f"neurfield {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"processor: {os.cpu_count()} cores, {_memory()}")
    supported = ", ".join(_native.supported_isas())
    print(f"native core: {_native.isa} (this machine runs {supported}; NEURFIELD_ISA forces one)")
    print(f"threads: {torch.get_num_threads()} (torch.set_num_threads or OMP_NUM_THREADS changes it)")
    print(f"CUDA kernels: {cuda_build()}")
    reason = why_not_auto()
    print(f"device: {f'cpu ({reason})' if reason else 'cuda'}")
    print("packages:")
    for name, use in PACKAGES.items():
        print(f"  {name:21}{_version(name):12}{use}")
    if old := _too_old():
        print("these are older than neurfield can use: pip install --upgrade " + " ".join(f"'{name}'" for name in old))
    start = time.perf_counter()
    failed = [name for name, test in SELF_TESTS.items() if not _passes(name, test)]
    print(f"self-test took {time.perf_counter() - start:.1f} s")
    if failed:
        raise MachineError(
            f"self-test failed: {', '.join(failed)}; build again with `make setup`, or force NEURFIELD_ISA"
        )
    return 0


def _memory() -> str:
    free = available_bytes()
    return f"{readable(free)} of memory free" if free else "free memory unknown"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def _too_old() -> list[str]:
    """Packages that are older than this installation asks for, each with the lowest version; `av>=17`."""
    try:
        wanted = importlib.metadata.requires("neurfield") or []
    except importlib.metadata.PackageNotFoundError:  # it runs from its sources alone
        return []
    used = [line for line in wanted if 'extra == "dev"' not in line]  # the others are the tests'
    lowest = {found[1].lower(): found[2] for line in used if (found := re.match(r"([\w.-]+)[^;]*?>=([\d.]+)", line))}
    versions = {name: (_version(name), lowest[name.lower()]) for name in PACKAGES if name.lower() in lowest}
    return [f"{name}>={low}" for name, (has, low) in versions.items() if has != MISSING and TorchVersion(has) < low]


def _passes(name: str, test: Callable[[], float]) -> bool:
    """Runs one comparison with known numbers; it gives the largest error in units of the allowed one."""
    try:
        excess = test()
        reason = "" if excess <= 1 else f" (error {excess:.3g} times the bound)"
    except Exception as error:  # whatever is broken belongs into this one line
        excess, reason = math.inf, f" ({type(error).__name__}: {error})"
    print(f"  {'ok    ' if excess <= 1 else 'FAILED'}  {name}{reason}")
    return excess <= 1
