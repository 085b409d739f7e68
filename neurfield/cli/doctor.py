# SPDX-License-Identifier: Apache-2.0
"""`neurfield doctor`: what is installed, which backend and instruction set is used, why not CUDA, and a self-test."""

import importlib.metadata
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from neurfield import __version__, _native, ops
from neurfield.errors import MachineError
from neurfield.training.device import why_not_cuda
from neurfield.training.memory import available_bytes, readable

# distribution: what works with it
_PACKAGES = {
    "torch": "operators and training",
    "numpy": "arrays",
    "safetensors": "reading checkpoints elsewhere",
    "pillow": "images",
    "imageio": "videos",
    "av": "videos (mp4)",
    "tyro": "the command line",
    "rich": "progress",
    "trimesh": "meshes (GLB, OBJ, PLY)",
    "scikit-image": "marching cubes",
    "OpenEXR": "EXR images",
    "tensorboard": "looking at the scalar log",
    "lpips": "the LPIPS metric (optional)",
}


@dataclass(frozen=True)
class DoctorOptions:
    """No options."""


def run(options: DoctorOptions) -> int:
    print(f"neurfield {__version__}, Python {platform.python_version()}, {platform.platform()}")
    print(f"processor: {os.cpu_count()} cores, {_memory()}")
    supported = ", ".join(_native.supported_isas())
    print(f"native core: {_native.isa} (this machine runs {supported}; NEURFIELD_ISA forces one)")
    print(f"threads: {torch.get_num_threads()} (torch.set_num_threads or OMP_NUM_THREADS changes it)")
    reason = why_not_cuda()
    print("device: cuda" if reason is None else f"device: cpu; cuda is not used: {reason}")
    print("packages:")
    for name, use in _PACKAGES.items():
        print(f"  {name:14}{_version(name):12}{use}")
    start = time.perf_counter()
    failed = [name for name, test in _SELF_TESTS.items() if not _passes(name, test)]
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
        return "missing"


def _passes(name: str, test: Callable[[], float]) -> bool:
    """Runs one comparison with known numbers; it gives the largest error in units of the allowed one."""
    try:
        excess = test()
        reason = "" if excess <= 1 else f" (error {excess:.3g} times the bound)"
    except Exception as error:  # whatever is broken belongs into this one line
        excess, reason = math.inf, f" ({type(error).__name__}: {error})"
    print(f"  {'ok    ' if excess <= 1 else 'FAILED'}  {name}{reason}")
    return excess <= 1


def _excess(actual: torch.Tensor, expected: list[float], bound: float) -> float:
    return float((actual.double().flatten() - torch.tensor(expected, dtype=torch.float64)).abs().max()) / bound


def _frequency() -> float:
    expected = [0.809017, 0.587785, 0.951057, -0.309017, -0.587785, -0.809017]
    return _excess(ops.frequency(torch.tensor([[0.3]]), 3), expected, 1e-6)


def _harmonics() -> float:
    expected = [0.282095, -0.261169, 0.391754, -0.130585, 0.156078, -0.468235, 0.292864, -0.234118, -0.117059]
    direction = torch.tensor([[1.0, 2.0, 3.0]]) / math.sqrt(14)
    return _excess(ops.spherical_harmonics(direction, 3), expected, 1e-6)


def _composite() -> float:
    sigmas, t = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 0.1, 0.3, 0.6])
    result = ops.composite(sigmas, torch.ones(3, 3), t[:-1], t[1:], torch.tensor([[0, 3]]), early_stop_eps=0)
    return _excess(result.weights, [0.095163, 0.298307, 0.471195], 1e-6)


def _hash_grid() -> float:
    """Levels of the instant-ngp grid exactly, and a table of ones, which any interpolation must give back."""
    config = ops.GridConfig(log2_hashmap_size=14, per_level_scale=1.381912879967776)
    resolutions = [16, 23, 31, 43, 59, 81, 112, 154, 213, 295, 407, 562, 777, 1073, 1483, 2048]
    if [level.resolution for level in config.levels()] != resolutions:
        return math.inf
    x = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0))
    return _excess(ops.hash_grid(x, torch.ones(config.n_params), config) - 1, [0.0], 1e-6)


def _mlp() -> float:
    """Forward and backward of a fused network against plain torch."""
    config = ops.MLPConfig(n_input_dims=32, n_output_dims=16, n_neurons=64, n_hidden_layers=1, activation="ReLU")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1000, 32, generator=generator)
    params = (torch.randn(64 * 32 + 16 * 64, generator=generator) / 8).requires_grad_(True)
    expected = torch.relu(x @ params[: 64 * 32].view(64, 32).T) @ params[64 * 32 :].view(16, 64).T
    (expected_grad,) = torch.autograd.grad(expected.square().mean(), params)
    actual = ops.fused_mlp(x, params, config)
    (grad,) = torch.autograd.grad(actual.square().mean(), params)
    error = max(float((actual.detach() - expected.detach()).abs().max()), float((grad - expected_grad).abs().max()))
    return error / 1e-3 / max(1.0, float(expected.detach().abs().max()))


_SELF_TESTS: dict[str, Callable[[], float]] = {
    "frequency encoding": _frequency,
    "spherical harmonics": _harmonics,
    "hash grid": _hash_grid,
    "fused network": _mlp,
    "compositing": _composite,
}
