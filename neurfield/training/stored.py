# SPDX-License-Identifier: Apache-2.0
"""Fields out of the tensors of a checkpoint."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from neurfield.errors import retold
from neurfield.training import packed

F = TypeVar("F", bound=nn.Module)
_FACTORIES = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_SMALL = 1 << 20  # elements


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """One line, as a UserError, for whatever does not fit in a block that reads the checkpoint `path`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise retold(error, f"{path}: the parts of this checkpoint do not fit each other") from None


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def build_field(build: Callable[[], F], tensors: Mapping[str, Tensor]) -> F:
    """The field that a checkpoint's configuration builds; large tensors only where the file has values for them.

    Raises:
        KeyError, ValueError: see check_stored.
    """
    check_stored(build, tensors)
    return build()


def check_stored(build: Callable[[], nn.Module], tensors: Mapping[str, Tensor]) -> None:
    """Compares the field that `build` gives, of which large tensors are shapes alone, with the tensors of a checkpoint.

    Raises:
        KeyError, ValueError: a tensor is not there, or of another shape.
    """
    with _LargeOnMeta():
        field = build()
    if packed.is_packed(tensors):
        packed.check_size(tensors, sum(value.numel() for value in field.state_dict().values()))
        return
    for name, value in field.state_dict().items():
        stored = tensors[f"field.{name}"].shape
        if stored != value.shape:
            raise ValueError(
                f"field.{name}: expected {list(value.shape)} as its configuration says, got {list(stored)}"
            )


class _LargeOnMeta(TorchFunctionMode):
    """Makes large tensors on the meta device, as shapes alone. Small ones are real: torch imports its compiler, which
    takes seconds, to compute with numbers on the meta device."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if function in _FACTORIES:
            shape = args[0] if args and not isinstance(args[0], int) else args
            if math.prod(shape) > _SMALL:
                return torch.empty(*shape, dtype=kwargs.get("dtype"), device="meta")
        elif args and isinstance(args[0], Tensor) and args[0].is_meta:
            kwargs.pop("generator", None)  # it has none
        return function(*args, **kwargs)


def load_field(field: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Sets a field; an average, where one was kept, is used for everything but training."""
    field.load_state_dict(part(tensors, "field.") | part(tensors, "ema."))
