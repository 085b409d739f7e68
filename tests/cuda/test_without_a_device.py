# SPDX-License-Identifier: Apache-2.0
"""The CUDA backend where there is no device: it loads, says so, and its operators are registered."""

import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import neurfield.ops
from neurfield import _native
from neurfield.errors import UserError
from neurfield.fields.radiance_field import FieldConfig
from neurfield.ops import FusedField, GridConfig, MLPConfig, _common
from neurfield.ops.fused_field import _unsupported
from neurfield.ops.fused_mlp import _takes_kernel, half_reason
from neurfield.training import device
from neurfield.training.device import architectures, cuda_build, why_not_cuda, why_not_graph
from neurfield.training.method import RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from tests.cuda.cases import CASES
from tests.scenes import ball_scene

ROOT = Path(__file__).parents[2]
CSRC, CUDA_PAGE = ROOT / "csrc", ROOT / "docs" / "cuda.md"

# with the results of the operators that make no tensors of them
FUNCTIONS = {
    "ray_aabb": 2, "camera_rays": 2, "project": 2, "composite": 5, "frequency": 1, "fused_mlp": 1, "over_background": 2,
    "spherical_harmonics": 1, "trunc_exp": 1, "wavelet": 1,
}  # fmt: skip


@pytest.fixture
def module() -> ModuleType:
    if (module := _native.cuda()) is None:
        pytest.skip(f"CUDA kernels: {cuda_build()}")
    return module


def test_the_module_loads_and_counts_devices(module: ModuleType) -> None:
    n_devices, reason = module.devices()
    assert (n_devices == 0) == bool(reason)
    assert module.toolkit.split(".")[0].isdigit()
    assert architectures(module)
    if n_devices == 0:
        assert why_not_cuda() is not None


# Operators that have no CUDA kernels yet, and what is of the CPU alone.
ON_THE_CPU = (
    "build_mesh_tree", "fused_gradients", "fused_slots", "fused_table_", "fused_workspace_",
    "hash_grid_backward_adam", "measure_", "simd_", "has_", "pooled_",
    "idle_", "num_threads", "set_num_threads", "supported_isas", "_",
)  # fmt: skip


def test_it_has_the_functions_of_the_cpu(module: ModuleType) -> None:
    assert {name for name in dir(_native.lib) if not name.startswith(ON_THE_CPU)} <= set(dir(module))


def test_a_torch_that_synchronises_streams_is_refused_for_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "cuda", lambda: SimpleNamespace(devices=lambda: (0, "no driver"), toolkit="13.0"))
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert why_not_graph() is None
    monkeypatch.setattr(torch.Tensor, "__dlpack__", lambda self, stream=None, max_version=None: None)  # up to 2.8
    assert why_not_graph() is None
    monkeypatch.setattr(torch.Tensor, "__dlpack__", lambda self, *, stream=None, dl_device=None: None)  # 2.9
    expected = f"torch {torch.__version__} cannot capture a training step; expected 2.10 or newer, or 2.8 or older"
    assert why_not_graph() == expected
    assert why_not_cuda() == "the kernels, built with CUDA 13.0, find no device: no driver"  # eval and render may run
    with pytest.raises(UserError, match=rf"^device cuda cannot be used: {re.escape(expected)}; use --device cpu$"):
        RadianceTask(ball_scene(2, 0), RunConfig(method=load_method("ngp-fast"), device="cuda"))


def test_importing_loads_no_cuda_module() -> None:
    code = (
        "import sys, neurfield.ops, neurfield.training.trainer; "
        "print([m for m in sys.modules if m.endswith('_native._cuda')])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "[]", result.stderr


def test_without_kernels_a_cuda_tensor_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_common, "cuda", lambda: None)
    with pytest.raises(
        RuntimeError, match=r"^this build of neurfield has no CUDA kernels: install it again where nvcc"
    ):
        _common._native_cuda(0)


def test_another_device_is_the_current_one_while_its_kernels_are_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    current, used = [0], []

    class Device:
        def __init__(self, index: int) -> None:
            self._index = index

        def __enter__(self) -> None:
            current.append(self._index)

        def __exit__(self, *error: object) -> None:
            current.pop()

    module = SimpleNamespace(use=lambda *place: used.append(place), kernel=lambda x: (x, current[-1]))
    monkeypatch.setattr(_common, "cuda", lambda: module)
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda index: 70 + index, raising=False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: current[-1])
    monkeypatch.setattr(torch.cuda, "device", Device)
    assert _common._native_cuda(0) is module
    assert _common._native_cuda(1).kernel("x") == ("x", 1) and current == [0]
    assert used == [(0, 70), (1, 71)]


def test_all_operators_but_those_of_the_documents_are_registered_for_cuda() -> None:
    for module in pkgutil.iter_modules(neurfield.ops.__path__):
        importlib.import_module(f"neurfield.ops.{module.name}")
    dispatch = torch._C
    names = {name for name in dispatch._dispatch_get_all_op_names() if name.startswith("neurfield::")}
    missing = {name for name in names if not dispatch._dispatch_has_kernel_for_dispatch_key(name, "CUDA")}
    (line,) = re.findall(r"^Operators without kernels: (.*?)\n\n", CUDA_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(names) > 40 and missing == {f"neurfield::{name}" for name in re.findall(r"`(\w+)`", line)}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_operators_trace_on_cuda(name: str) -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        cuda = torch.device("cuda", 0)
        n, v = torch.empty(8, device=cuda), torch.empty(8, 3, device=cuda)
        ints = torch.empty(8, dtype=torch.int64, device=cuda)
        arguments = {
            "ray_aabb": (v, v, torch.empty(6, device=cuda)),
            "composite": (n, v, n, n, torch.empty(2, 2, dtype=torch.int64, device=cuda)),
            "frequency": (v, 4),
            "fused_mlp": (v, torch.empty(512, device=cuda), MLPConfig(3, 2, 16), None, True),
            "over_background": (torch.empty(8, 4, device=cuda),),
            "spherical_harmonics": (v, 4),
            "trunc_exp": (v,),
            "wavelet": (torch.empty(8, 4, device=cuda), 20.0, 10.0),
        }
        if name in ("camera_rays", "project"):
            views = (torch.empty(2, 3, 4, device=cuda), torch.empty(2, 4, device=cuda), torch.empty(2, 6, device=cuda))
            last = torch.empty(8, 2 if name == "camera_rays" else 3, device=cuda)
            outputs = getattr(torch.ops.neurfield, name)(
                *views, torch.empty(2, dtype=torch.int64, device=cuda), ints, last
            )
        else:
            outputs = getattr(neurfield.ops, name)(*arguments[name])
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(outputs) == FUNCTIONS[name]
        assert {output.device for output in outputs} == {cuda}


def test_inputs_on_two_devices_are_an_error() -> None:
    with FakeTensorMode():
        here, there = torch.empty(8, 3), torch.empty(8, 3, device="cuda:0")
        with pytest.raises(ValueError, match="ray_aabb: directions must be on cpu like the other inputs, got cuda:0"):
            neurfield.ops.ray_aabb(here, there, torch.empty(6))
        bits = torch.empty(1, 64, dtype=torch.uint8), torch.empty(1, 1, dtype=torch.uint8)
        with pytest.raises(ValueError, match="march: bitfield must be on cuda:0 like the other inputs, got cpu"):
            neurfield.ops.march(there, there, *bits)
        grid, density, color = GridConfig(3, 1, 2, 8, 4), MLPConfig(2, 1, 16, 1), MLPConfig(2, 3, 16, 1)
        sizes = (grid.n_params, density.n_params, color.n_params)
        parts = [torch.empty(size, device=there.device) for size in sizes]
        low = (0.0, 0.0, 0.0)
        with pytest.raises(ValueError, match="color_params must be on cuda:0 like the other inputs, got cpu"):
            FusedField(grid, parts[0], density, parts[1], color, parts[2].cpu(), 1, low, low, parts[0].half())
        field = FusedField(grid, parts[0], density, parts[1], color, parts[2], 1, low, low, parts[0].half())
        with pytest.raises(ValueError, match="fused_density: positions must be on cuda:0 like the other inputs, got"):
            neurfield.ops.fused_density(field, here)


def test_what_does_not_fit_into_shared_memory_takes_another_way(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    core = SimpleNamespace(
        max_shared_bytes=lambda: 500,
        fused_mlp_shared_bytes=lambda shape: (600, 1200),
        fused_mlp_half_shared_bytes=lambda shape: 700,
        fused_render_shared_bytes=lambda sizes: 800,
    )
    for module in ("fused_mlp", "fused_field"):
        monkeypatch.setattr(importlib.import_module(f"neurfield.ops.{module}"), "cuda_core", lambda device: core)
    for cached in (half_reason, _takes_kernel):  # nothing of another core, and nothing of this one afterwards
        cached.cache_clear()
        request.addfinalizer(cached.cache_clear)
    here = torch.device("cuda", 0)
    config = MLPConfig(3, 2, 16)
    assert half_reason(config, here) == ("its backward pass takes 700 bytes of shared memory, more than 500 of cuda:0")
    # torch without CUDA cannot take views of tensors there
    module = importlib.import_module("neurfield.ops.fused_mlp")
    monkeypatch.setattr(module, "_composed", lambda x, params, modulation, config: x.new_empty(x.shape[0], 2))
    with FakeTensorMode():
        x, params = torch.empty(8, 3, device=here), torch.empty(config.n_params, device=here)
        for dtype, half in ((torch.float32, False), (torch.float32, True), (torch.float16, True)):
            with Operators() as called:  # tensor cores cannot take it, then the kernel in float cannot
                y = neurfield.ops.fused_mlp(x.to(dtype), params, config, half_products=half)
            assert called.names == set() and (y.shape, y.dtype) == ((8, 2), dtype)
        with Operators() as called:
            neurfield.ops.fused_mlp(x.double(), params.double(), config)
        assert called.names == set()
        core.max_shared_bytes = lambda: 10_000  # all fits now, but wide layers are not for the kernel
        _takes_kernel.cache_clear()
        for width, expected in ((128, {"neurfield::fused_mlp"}), (144, set())):
            config = MLPConfig(3, 2, width)
            with Operators() as called:
                neurfield.ops.fused_mlp(x, torch.empty(config.n_params, device=here), config)
            assert called.names == expected
        core.max_shared_bytes = lambda: 500
    grid, color = GridConfig(3, 1, 2, 8, 4), MLPConfig(2, 3, 16, 1)
    assert _unsupported(grid, MLPConfig(2, 1, 16, 1), color, here) == (
        "its networks take 800 bytes of shared memory, more than 500 of cuda:0"
    )
    assert _unsupported(grid, MLPConfig(2, 1, 16, 1), color, torch.device("cpu")) is None


def test_every_stem_with_kernels_has_a_case() -> None:
    stems = {kernels.stem for kernels in (CSRC / "cuda").glob("*.cu")}
    stems &= {binding.stem for binding in (CSRC / "bindings").glob("*.cpp")}
    halves = {"fused_render"}  # of float16 products, in test_half_products.py
    assert stems - halves == {re.split("[-,]", case.name)[0] for case in CASES}


class Operators(TorchDispatchMode):
    """Names of the project's operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.namespace == "neurfield":
            self.names.add(func._schema.name)
        return func(*args, **(kwargs or {}))


def test_the_networks_of_a_field_multiply_on_tensor_cores() -> None:
    """Unless they are to be precise."""
    for precision, expected in (("bf16", "neurfield::fused_mlp_half"), ("fp32", "neurfield::fused_mlp")):
        field = FieldConfig(network_precision=precision).build((0, 0, 0, 1, 1, 1))
        for network in (field.density_network, field.color_network):
            with FakeTensorMode(), Operators() as called, torch.no_grad():
                params = torch.empty(network.config.n_params, device="cuda:0")
                network.params = torch.nn.Parameter(params)
                network(torch.empty(8, network.n_input_dims, device="cuda:0"))
            assert called.names == {expected}


def test_a_device_that_cannot_be_used_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "why_not_cuda", lambda: None)
    monkeypatch.setattr(device, "why_not_graph", lambda: None)
    assert [device.resolve_device(name) for name in ("auto", "cuda", "cpu")] == ["cuda", "cuda", "cpu"]
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    torch_devices = [torch.device(name) for name in ("cuda", "cuda:0", "cpu", "cpu:0")]
    assert [device.resolve_device(one) for one in torch_devices] == ["cuda", "cuda", "cpu", "cpu"]
    with pytest.raises(UserError, match=r"^device: expected the current one, cuda:0, got 'cuda:1'; choose it with"):
        device.resolve_device(torch.device("cuda:1"))
    for name in ("meta", "cuda:x", "cpu:", "auto:0"):
        with pytest.raises(UserError, match=rf"^device: expected auto, cpu or cuda, got '{name}'$"):
            device.resolve_device(name)
    assert device.resolve_device("auto", "signals stay") == "cpu"
    with pytest.raises(UserError, match=r"^device cuda cannot be used: signals stay; use --device cpu$"):
        device.resolve_device("cuda", "signals stay")
    monkeypatch.setattr(device, "why_not_cuda", lambda: "no driver")
    assert device.resolve_device("auto") == "cpu"
    with pytest.raises(UserError, match=r"^device cuda cannot be used: no driver; use --device cpu$"):
        device.resolve_device("cuda")
