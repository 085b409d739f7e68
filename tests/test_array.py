# SPDX-License-Identifier: Apache-2.0
"""What the native functions take as arrays (csrc/bindings/array.h): tensors by torch's table of functions, all else by
DLPack's method or the buffer protocol, and the same arrays in every way.
"""

import ast
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from neurfield._native import cuda, lib

HAS_TABLE = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")


class Exporter:
    """A tensor of which nothing but DLPack's method is to be seen."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor.detach()

    def __dlpack__(self, **options: Any) -> Any:
        return self._tensor.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self._tensor.__dlpack_device__()


class Subclass(torch.Tensor):
    pass


WAYS: dict[str, Callable[[Tensor], Any]] = {"tensor": lambda tensor: tensor, "exporter": Exporter}
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=list(WAYS))

VALUES = torch.linspace(-2, 2, 24)
ACCEPTED = {
    "plain": VALUES,
    "double": VALUES.double(),
    "part": VALUES[5:],
    "empty": VALUES[:0],
    "one, far apart": VALUES[::24],
    "parameter": nn.Parameter(VALUES),
    "needs gradient": VALUES.clone().requires_grad_(),
    "result": VALUES.clone().requires_grad_() * 1,
    "subclass": VALUES.as_subclass(Subclass),
}
REFUSED = {
    "half": VALUES.half(),
    "bfloat16": VALUES.bfloat16(),
    "integers": VALUES.int(),
    "complex": VALUES.to(torch.complex64),
    "booleans": VALUES > 0,
    "strided": VALUES[::2],
    "expanded": VALUES[:1].expand(4),
    "no axis": VALUES[0],
    "two axes": VALUES.view(4, 6),
    "without memory": VALUES.to("meta"),
    "sparse": VALUES.to_sparse(),
}


@each_way
@pytest.mark.parametrize("x", ACCEPTED.values(), ids=list(ACCEPTED))
def test_accepted(way: Callable[[Tensor], Any], x: Tensor) -> None:
    y = torch.full((len(x),), torch.nan, dtype=x.dtype)
    lib.trunc_exp_forward(way(x), way(y))
    torch.testing.assert_close(y, x.detach().as_subclass(torch.Tensor).exp())


@each_way
@pytest.mark.parametrize("x", REFUSED.values(), ids=list(REFUSED))
def test_refused(way: Callable[[Tensor], Any], x: Tensor) -> None:
    y = torch.zeros(VALUES.shape)
    for arrays in ((x, y), (VALUES, x)):
        with pytest.raises(TypeError, match=r"trunc_exp_forward\(\): incompatible function arguments") as error:
            lib.trunc_exp_forward(*map(way, arrays))
        for words in ("dtype=float32, shape=(*), order='C', device='cpu', writable=False", "dtype=float64"):
            assert words in str(error.value)
    assert not y.any()


@each_way
def test_all_arguments_have_one_dtype(way: Callable[[Tensor], Any]) -> None:
    with pytest.raises(TypeError, match="incompatible"):
        lib.trunc_exp_forward(way(VALUES), way(VALUES.double()))


@each_way
def test_axes_of_one_may_have_any_stride(way: Callable[[Tensor], Any]) -> None:
    direction = torch.tensor([[0.0], [0.6], [0.8]]).t()  # strides 1, 1
    lib.spherical_harmonics_forward(way(direction), way(y := torch.empty(1, 4)), 2)
    lib.spherical_harmonics_forward(direction.clone(memory_format=torch.contiguous_format), z := torch.empty(1, 4), 2)
    assert torch.equal(y, z)
    lib.spherical_harmonics_forward(way(torch.empty(0, 3)), way(torch.empty(0, 4)), 2)
    with pytest.raises(TypeError, match="incompatible"):
        lib.spherical_harmonics_forward(way(torch.empty(3, 2).t()), way(torch.empty(2, 4)), 2)


def test_none_is_an_array_only_where_it_may_be() -> None:
    with pytest.raises(TypeError, match="incompatible"):
        lib.trunc_exp_forward(None, torch.zeros(3))


@pytest.mark.parametrize("max_level", [None, torch.ones(1), torch.ones(1, dtype=torch.float64), np.ones(1, np.float32)])
def test_arguments_that_convert(max_level: Any) -> None:
    layout = (1, 1, 1, 2, 2, 1, 0)  # a dense level of 2 vertices
    params, y = torch.tensor([1.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]), torch.empty(1, 1)
    lib.hash_grid_forward(layout, 1.0, torch.zeros(1, 1), params, max_level, y)
    assert 1 <= y.item() <= 3


def test_numpy_and_what_it_forbids() -> None:
    x, y = VALUES.numpy(), np.zeros(24, np.float32)
    x.flags.writeable = False
    lib.trunc_exp_forward(x, y)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    with pytest.raises(TypeError, match="incompatible"):
        lib.trunc_exp_forward(y, x)
    with pytest.raises(TypeError, match="incompatible"):
        lib.trunc_exp_forward(x.astype(np.int32), y)


@pytest.mark.skipif(not HAS_TABLE, reason=f"torch {torch.__version__} has no table of functions")
def test_tensors_come_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **options: Any) -> None:
        raise AssertionError("called")

    monkeypatch.setattr(torch.Tensor, "__dlpack__", refuse)
    y = torch.empty_like(VALUES)
    lib.trunc_exp_forward(VALUES, y)
    lib.trunc_exp_forward(nn.Parameter(VALUES), y)
    torch.testing.assert_close(y, VALUES.exp())


# A torch whose table fills in what a test wants to see. The module is loaded without the package, which imports torch.
MADE_TABLE = """
import ctypes, importlib.util, sys, types

class DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]

class View(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p), ("device", ctypes.c_int32), ("index", ctypes.c_int32), ("ndim", ctypes.c_int32),
        ("dtype", DType), ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]

@ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.POINTER(View))
def view(tensor, out):
    out[0] = View(ctypes.addressof(tensor.data), tensor.device, 1, 1, DType(2, 32, 1), tensor.shape, tensor.strides,
                  tensor.byte_offset)
    return tensor.answer

class Table(ctypes.Structure):
    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("unused", ctypes.c_void_p * 4),
                ("view", type(view)), ("stream", ctypes.c_void_p)]

class Tensor:
    def __init__(self, device=1, stride=None, byte_offset=0, answer=0):
        self.data, self.shape = (ctypes.c_float * 8)(*range(8)), (ctypes.c_int64 * 1)(4)
        self.strides = (ctypes.c_int64 * 1)(stride) if stride else None
        self.device, self.byte_offset, self.answer = device, byte_offset, answer

table = Table(major=int(sys.argv[2]), minor=9, view=view)
capsule = ctypes.pythonapi.PyCapsule_New
capsule.restype, capsule.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
Tensor.__dlpack_c_exchange_api__ = capsule(ctypes.addressof(table), b"dlpack_exchange_api", None)
sys.modules["torch"] = types.SimpleNamespace(Tensor=Tensor)
spec = importlib.util.spec_from_file_location(sys.argv[1].split("/")[-1].split(".")[0], sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)

def call(x, **y):
    y = Tensor(**y)
    try:
        module.trunc_exp_forward(x, y)
    except Exception as error:
        return type(error).__name__
    return [round(value, 3) for value in y.data[:6]]

class Part(Tensor):
    pass

print([call(Tensor()), call(Tensor(stride=1, byte_offset=8), byte_offset=4), call(Part(stride=1), stride=1),
       call(Tensor(stride=2)), call(Tensor(device=2)), call(Tensor(), device=2), call(Tensor(device=2), device=2),
       call(Tensor(answer=-1))])
"""


def with_made_table(path: str, major: int) -> list[Any]:
    command = [sys.executable, "-c", MADE_TABLE, path, str(major)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
    return ast.literal_eval(run.stdout)


def test_what_a_table_says_is_read() -> None:
    plain = [1.0, 2.718, 7.389, 20.086, 4.0, 5.0]  # e^x of 0 1 2 3, over 0 1 2 3 4 5
    shifted = [0.0, 7.389, 20.086, 54.598, 148.413, 5.0]  # 8 bytes further from 2 on, and 4 bytes further to 1 and on
    assert with_made_table(lib.__file__, 1) == [plain, shifted, plain, *["TypeError"] * 5]
    assert with_made_table(lib.__file__, 2) == ["TypeError"] * 8  # another layout than that of version 1


def test_the_cuda_module_takes_arrays_of_devices_only() -> None:
    module = cuda()
    if module is None:
        pytest.skip("no CUDA kernels in this build")
    if module.devices()[0]:
        pytest.skip("there is a device, and these addresses are the host's")
    taken = "RuntimeError"  # no device to run it on
    assert with_made_table(module.__file__, 1) == [*["TypeError"] * 6, taken, "TypeError"]


WITHOUT_TABLE = """
import torch
if hasattr(torch.Tensor, "__dlpack_c_exchange_api__"):
    del torch.Tensor.__dlpack_c_exchange_api__
from neurfield import ops
x = torch.linspace(-2, 2, 24, requires_grad=True)
(grad,) = torch.autograd.grad(ops.trunc_exp(x).sum(), x)
torch.testing.assert_close(grad, x.detach().exp())
"""


def test_an_older_torch_has_no_table() -> None:
    run = subprocess.run([sys.executable, "-c", WITHOUT_TABLE], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stderr
