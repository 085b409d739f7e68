# SPDX-License-Identifier: Apache-2.0
"""Registers functions as operators of torch, as torch.library.custom_op does, but with no layer that imports the
compiler at the first call: that takes a second, which every command would pay.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch

_LIBRARY = torch.library.Library("neurfield", "FRAGMENT")


class Operator:
    """An operator of torch. Calling it goes through torch's dispatcher: torch.compile, modes and profilers see it.

    An eager call asks before whether there is something to differentiate. `torch.ops.neurfield.NAME`, which compilers
    and transformations take, asks when the dispatcher has come to autograd, from where it enters Python a second time.
    """

    def __init__(self, name: str, kernel: Callable[..., Any], mutated: Sequence[str], devices: Sequence[str]) -> None:
        self.name = f"neurfield::{name}"
        self._backward: Callable[..., Any] | None = None
        self._setup_context: Callable[..., Any] | None = None
        schema = torch.library.infer_schema(kernel, mutates_args=mutated)
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        self._op = getattr(torch.ops.neurfield, name).default
        arguments = [argument.name for argument in self._op._schema.arguments]
        changed = [arguments.index(argument) for argument in mutated]
        self._n_arguments = len(arguments)
        self._tensors = [i for i, argument in enumerate(self._op._schema.arguments) if "Tensor" in str(argument.type)]
        for device in devices:
            _LIBRARY.impl(name, _counting(kernel, changed) if changed else kernel, device.upper())
        self._call = None if changed else _differentiable_call(self)
        if not changed:
            torch.library.register_autograd(self.name, self._differentiate, setup_context=self._keep, lib=_LIBRARY)

    def __call__(self, *args: Any) -> Any:
        if (
            self._call is None
            or len(args) != self._n_arguments
            or torch.compiler.is_compiling()
            or torch._C._are_functorch_transforms_active()
        ):
            return self._op(*args)
        if torch.is_grad_enabled():
            for i in self._tensors:
                if args[i] is not None and args[i].requires_grad:
                    return self._call.apply(*args)
        return self._below_autograd(*args)

    def _below_autograd(self, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return self._op(*args)

    def register_fake(self, fake: Callable[..., Any]) -> Callable[..., Any]:
        """A decorator: shapes and dtypes of the results, for tensors without values."""
        torch.library.register_fake(self.name, fake, lib=_LIBRARY)
        return fake

    def register_autograd(
        self, backward: Callable[..., Any], *, setup_context: Callable[..., Any] | None = None
    ) -> None:
        """The derivative, as torch.library.register_autograd takes it. Operators without one raise when it is asked."""
        self._backward, self._setup_context = backward, setup_context

    def _keep(self, ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        if self._setup_context is not None:
            self._setup_context(ctx, inputs, output)

    def _differentiate(self, ctx: Any, *grads: Any) -> Any:
        if self._backward is None:
            raise RuntimeError(f"{self.name} has no derivative")
        return self._backward(ctx, *grads)


def _differentiable_call(operator: Operator) -> Any:
    """The operator as a torch.autograd.Function."""

    def forward(ctx: Any, *args: Any) -> Any:
        output = operator._below_autograd(*args)
        operator._keep(ctx, args, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        return operator._differentiate(ctx, *grads)

    name = operator.name.replace("::", "_")  # grad_fn and profilers show it
    functions = {"forward": staticmethod(forward), "backward": staticmethod(backward)}
    return type(name, (torch.autograd.Function,), functions)


def _counting(kernel: Callable[..., Any], changed: Sequence[int]) -> Callable[..., Any]:
    """`kernel`, and autograd is told that it has changed these arguments."""

    def run(*args: Any, **kwargs: Any) -> Any:
        result = kernel(*args, **kwargs)
        for i in changed:
            tensor = args[i] if i < len(args) else None  # torch leaves out what has its default at the end
            if tensor is not None and not tensor.is_inference():
                torch.autograd.graph.increment_version(tensor)
        return result

    return run


def operator(
    name: str, *, mutates: Sequence[str] = (), devices: Sequence[str]
) -> Callable[[Callable[..., Any]], Operator]:
    """A decorator: the function becomes the kernel of `torch.ops.neurfield.NAME` on these devices.

    Args:
        name: of the operator.
        mutates: arguments that the function changes.
        devices: `cpu`, `cuda`.
    """
    return lambda kernel: Operator(name, kernel, mutates, devices)
