# SPDX-License-Identifier: Apache-2.0
"""Which device a run uses, and why CUDA is not it."""

import inspect
import os
import re
from types import ModuleType
from typing import Literal

import torch

from neurfield._native import cuda
from neurfield.errors import UserError


def why_not_cuda() -> str | None:
    """The reason why operators of this installation cannot run on CUDA, or None where they can."""
    module = cuda()
    if module is None:
        return "this build of neurfield has no CUDA kernels"
    if torch.version.cuda is None:
        return f"the installed torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    n_devices, reason = module.devices()
    if n_devices == 0:
        return f"the kernels, built with CUDA {module.toolkit}, find no device: {reason}"
    major, minor = torch.cuda.get_device_capability()
    if 10 * major + minor < min(architectures(module)):
        return f"the kernels are built for {_targets(module)}, the device has compute capability {major}.{minor}"
    return None


def why_not_graph() -> str | None:
    """The reason why calls of the kernels cannot be captured in a CUDA graph, which trainings need, or None.

    Where a tensor is handed to a kernel, torch 2.9 makes the default stream wait for the current one, and no graph can
    hold that. It came with `dl_device` and went with another default, -1 (pytorch pull requests 150217 and 163242).
    """
    parameters = inspect.signature(torch.Tensor.__dlpack__).parameters
    if "dl_device" in parameters and parameters["stream"].default is None:
        return f"torch {torch.__version__} cannot capture a training step; expected 2.10 or newer, or 2.8 or older"
    return None


def why_not_auto() -> str | None:
    """The reason why `auto` is the CPU, or None: CUDA cannot be used or cannot train, or NEURFIELD_CUDA is 0."""
    if os.environ.get("NEURFIELD_CUDA") == "0":
        return "NEURFIELD_CUDA is 0"
    return why_not_cuda() or why_not_graph()


def architectures(module: ModuleType) -> list[int]:
    """Compute capabilities that the kernels are compiled for, 90 for 9.0; their PTX serves newer devices."""
    return [int(name.split("-")[0].rstrip("af")) for name in module.architectures.split()]


def _targets(module: ModuleType) -> str:
    return f"{', '.join(f'sm_{arch}' for arch in architectures(module))} with CUDA {module.toolkit}"


def cuda_build() -> str:
    """What the CUDA kernels of this installation were built for and which devices they see, in one line."""
    module = cuda()
    if module is None:
        return "not built (no nvcc, no GPU of compute capability 8.0 or newer that it knows, or NEURFIELD_CUDA=0)"
    n_devices, reason = module.devices()
    return f"{_targets(module)}; devices seen: {n_devices or f'none ({reason})'}"


def resolve_device(device: str | torch.device, cpu_only: str | None = None) -> Literal["cpu", "cuda"]:
    """`cpu` or `cuda` for `auto`, `cpu`, `cuda`. `auto` is `cuda` where nothing speaks against it.

    Args:
        cpu_only: the reason, if what is to run exists on the CPU only.

    Raises:
        UserError: cuda was asked for where it cannot be used, or the name is none of these.
    """
    name, _, index = str(device).partition(":")
    if not re.fullmatch(r"auto|(cpu|cuda)(:\d+)?", str(device)):
        raise UserError(f"device: expected auto, cpu or cuda, got {str(device)!r}")
    if name == "cuda" and index and not why_not_cuda() and int(index) != torch.cuda.current_device():
        current = f"cuda:{torch.cuda.current_device()}"
        raise UserError(
            f"device: expected the current one, {current}, got {str(device)!r}; choose it with torch.cuda.set_device, "
            "or with CUDA_VISIBLE_DEVICES"
        )
    if name == "cpu" or (name == "auto" and (cpu_only or why_not_auto())):
        return "cpu"
    if reason := cpu_only or why_not_cuda():
        raise UserError(f"device cuda cannot be used: {reason}; use --device cpu")
    return "cuda"
