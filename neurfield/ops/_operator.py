# SPDX-License-Identifier: Apache-2.0
"""Registers functions as operators of torch, as torch.library.custom_op does, but with no layer that imports the
compiler at the first call: that takes a second, which every command would pay.
"""

import inspect
import typing
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.autograd import forward_ad

_LIBRARY = torch.library.Library("neurfield", "FRAGMENT")


class Operator:
    """An operator of torch. Calling it goes through torch's dispatcher: torch.compile, modes and profilers see it.

    An eager call asks before whether there is something to differentiate. `torch.ops.neurfield.NAME`, which compilers
    take, asks when the dispatcher has come to autograd, from where it enters Python a second time. Transformations of
    torch.func differentiate eager calls; forward mode, which no operator has, is an error and not a derivative of 0.
    """

    def __init__(self, name: str, kernel: Callable[..., Any], mutated: Sequence[str], devices: Sequence[str]) -> None:
        self.name = f"neurfield::{name}"
        self._backward: Callable[..., Any] | None = None
        self._setup_context: Callable[..., Any] | None = None
        schema = torch.library.infer_schema(_in_known_words(kernel), mutates_args=mutated)
        _LIBRARY.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        self._op = getattr(torch.ops.neurfield, name).default
        arguments = [argument.name for argument in self._op._schema.arguments]
        changed = [arguments.index(argument) for argument in mutated]
        self._n_arguments = len(arguments)
        self._tensors = [i for i, argument in enumerate(self._op._schema.arguments) if "Tensor" in str(argument.type)]
        for device in devices:
            _LIBRARY.impl(name, _counting(kernel, changed) if changed else kernel, device.upper())
        self._call: Any = None
        self._transformed: Any = None
        if not changed:
            self._call, self._transformed = _differentiable_calls(self)
            torch.library.register_autograd(self.name, self._differentiate, setup_context=self._keep, lib=_LIBRARY)

    def __call__(self, *args: Any) -> Any:
        if self._call is None or len(args) != self._n_arguments or torch.compiler.is_compiling():
            return self._op(*args)
        if torch._C._are_functorch_transforms_active():
            return self._transformed.apply(*args)
        if forward_ad._current_level >= 0:
            return self._call.apply(*args)
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
            forward = self.name.removesuffix("_backward")
            raise RuntimeError(f"{forward} has no {'derivative' if forward == self.name else 'second derivative'}")
        return self._backward(ctx, *grads)


def _in_known_words(kernel: Callable[..., Any]) -> Callable[..., Any]:
    """Something with the signature of `kernel` whose sequences are those of typing: torch 2.6 reads no others.

    Those that may be None are left as they are; no operator has any.
    """
    sequence: Any = typing.Sequence

    def known(annotation: Any) -> Any:
        is_sequence = typing.get_origin(annotation) in (Sequence, list)
        return sequence[typing.get_args(annotation)] if is_sequence else annotation

    def signed() -> None:
        pass

    signature = inspect.signature(kernel)
    parameters = [p.replace(annotation=known(p.annotation)) for p in signature.parameters.values()]
    signed.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return signed


def _differentiable_calls(operator: Operator) -> tuple[Any, Any]:
    """The operator as a torch.autograd.Function, for eager calls and as torch.func transforms it, which costs more."""

    def forward(*args: Any) -> Any:
        return operator._below_autograd(*args)

    def keep(ctx: Any, args: tuple[Any, ...], output: Any) -> None:
        operator._keep(ctx, args, output)

    def forward_and_keep(ctx: Any, *args: Any) -> Any:
        output = forward(*args)
        keep(ctx, args, output)
        return output

    def backward(ctx: Any, *grads: Any) -> Any:
        return operator._differentiate(ctx, *grads)

    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(
            f"{operator.name} has no derivative in forward mode (jvp, jacfwd, torch.func.hessian); "
            "use reverse mode: torch.autograd.grad, torch.func.grad, vjp, jacrev"
        )

    def function(**functions: Any) -> Any:
        name = operator.name.replace("::", "_")  # grad_fn and profilers show it
        functions |= {"backward": backward, "jvp": jvp}
        parts = {key: staticmethod(value) for key, value in functions.items()}
        return type(name, (torch.autograd.Function,), {**parts, "generate_vmap_rule": True})

    return function(forward=forward_and_keep), function(forward=forward, setup_context=keep)


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
