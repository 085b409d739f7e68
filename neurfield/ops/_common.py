# SPDX-License-Identifier: Apache-2.0
"""Checks and conversions that every operator shares, so that all of them fail with the same kind of line."""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from neurfield._native import cuda, lib

DEVICES = ("cpu", "cuda")  # of operators whose native functions exist for both
NATIVE_FLOATS = (torch.float32, torch.float64)


def check_tensor(
    op: str,
    name: str,
    tensor: Tensor,
    shape: tuple[int | str, ...],
    dtypes: tuple[torch.dtype, ...] = NATIVE_FLOATS,
    device: torch.device | None = None,
) -> None:
    """Raises TypeError (no tensor, dtype) or ValueError (shape, device) with expected and found.

    `shape` mixes exact sizes and names of free ones: `("n", 3)`.
    """
    if not isinstance(tensor, Tensor):  # dtype and shape of a NumPy array may look right
        raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(tensor).__name__}")
    sizes, of_dtype = tensor.shape, tensor.dtype in dtypes
    fits = len(shape) == len(sizes) and not [
        want for want, got in zip(shape, sizes, strict=True) if not isinstance(want, str) and want != got
    ]
    if not (of_dtype and fits):  # the words only then: every call comes by here, several times
        expected = f"{'/'.join(str(d).removeprefix('torch.') for d in dtypes)} [{', '.join(map(str, shape))}]"
        found = f"{str(tensor.dtype).removeprefix('torch.')} {list(sizes)}"
        message = f"{op}: {name} must be {expected}, got {found}"
        raise ValueError(message) if of_dtype else TypeError(message + _way_out(tensor.dtype, dtypes))
    if device is not None and tensor.device != device:
        raise ValueError(f"{op}: {name} must be on {device} like the other inputs, got {tensor.device}")


def _way_out(got: torch.dtype, dtypes: tuple[torch.dtype, ...]) -> str:
    """For floats of other precisions: halves of torch.autocast, say, or doubles that were NumPy's."""
    if got.is_floating_point and torch.float32 in dtypes:
        return "; use .float()"
    if got.is_floating_point and torch.float64 in dtypes:
        return " where other inputs are float64; use .float() of those, or .double() of module and inputs"
    return ""


Answer = TypeVar("Answer")


def read_once(read: Callable[[Tensor], Answer]) -> Callable[[Tensor], Answer]:
    """Keeps what `read(tensor)` found until torch changes or frees the tensor: on CUDA only the first call waits."""
    kept = WeakTensorKeyDictionary()

    @functools.wraps(read)
    def read_or_recall(tensor: Tensor) -> Answer:
        if tensor.is_inference():  # has no version
            return read(tensor)
        version, answer = kept.get(tensor, (None, None))
        if version != tensor._version:
            answer = read(tensor)
            kept[tensor] = tensor._version, answer
        return answer

    return read_or_recall


POOLED_BYTES = 1 << 20


def empty(like: Tensor, *shape: int) -> Tensor:
    """`like.new_empty(*shape)`; large CPU memory is the native pool's, which is not faulted in at every call."""
    n_bytes = math.prod(shape) * like.element_size()
    if n_bytes < POOLED_BYTES or like.device.type != "cpu":
        return like.new_empty(*shape)
    # no view of the bytes: results that are views cannot be changed in place where they have a gradient
    return like.new_empty(0).set_(lib.pooled_bytes(n_bytes).untyped_storage()).resize_(shape)


def vjp(function: Callable[..., Tensor], inputs: Sequence[Tensor], upstream: Tensor) -> tuple[Tensor, ...]:
    """Gradients of `(upstream * function(*inputs)).sum()` in the inputs, by torch, for the backward of a backward.

    They are functions of the inputs for whoever differentiates on: with autograd, or a transformation of torch.func,
    in which torch.autograd.grad cannot be asked (and which imports the compiler).
    """
    if torch._C._are_functorch_transforms_active():
        return torch.func.vjp(function, *inputs)[1](upstream)
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        # one input may be a function of another: each gradient is that of its own place only
        places = [t.view_as(t) if t.requires_grad else t.detach().requires_grad_() for t in inputs]
        return torch.autograd.grad(
            function(*places), places, upstream, create_graph=differentiable, materialize_grads=True
        )


def contiguous(tensor: Tensor | None) -> Tensor | None:
    """What a binding takes for an argument that may be absent."""
    return None if tensor is None else tensor.contiguous()


def aligned(tensor: Tensor) -> Tensor:
    """Contiguous and, on CUDA, at a multiple of 16 bytes: what kernels need that load several values at a time."""
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.is_cuda and tensor.data_ptr() % 16 else tensor


def native_table(table: Tensor) -> Tensor:
    """Aligned, float16 as its bits: DLPack exporters and the native core agree on int16."""
    table = aligned(table.detach())
    return table.view(torch.int16) if table.dtype == torch.float16 else table


def native_threads() -> None:
    """Makes the native pool follow torch.set_num_threads. Called by every CPU implementation."""
    lib.set_num_threads(torch.get_num_threads())


def native(tensor: Tensor) -> Any:
    """The native core for the device of `tensor`, with the same functions for each.

    On CUDA they run on the current stream of that device and return before it is done.

    Raises:
        RuntimeError: a CUDA tensor, and no CUDA kernels.
    """
    if tensor.is_cuda:
        return _native_cuda(tensor.get_device())
    native_threads()
    return lib


def _native_cuda(index: int) -> "ModuleType | _OtherDevice":
    module = cuda()
    if module is None:
        raise RuntimeError(
            "this build of neurfield has no CUDA kernels: install it again where nvcc is found, or use CPU tensors"
        )
    module.use(index, torch._C._cuda_getCurrentRawStream(index))  # that of current_stream, which builds an object
    return module if index == torch.cuda.current_device() else _OtherDevice(module, index)


def not_deterministic(message: str) -> None:
    """What torch.use_deterministic_algorithms asks for: an error, or a warning with warn_only=True."""
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)


def cuda_core(device: torch.device) -> Any:
    """The native core for a CUDA device, or None where there is none: fake tensors, or a build without kernels."""
    if cuda() is None or not torch.cuda.is_available():
        return None
    return _native_cuda(torch.cuda.current_device() if device.index is None else device.index)


class _OtherDevice:
    """The CUDA module for a device that is not the current one: kernels are launched on the current one, and
    `Tensor.__dlpack__` exports no other's tensors."""

    def __init__(self, module: ModuleType, index: int) -> None:
        self._module, self._index = module, index

    def __getattr__(self, name: str) -> Any:
        function = getattr(self._module, name)

        def call(*args: Any) -> Any:
            with torch.cuda.device(self._index):
                return function(*args)

        return call
