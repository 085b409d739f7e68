# SPDX-License-Identifier: Apache-2.0
"""Fields out of the tensors of a checkpoint."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from neurfield.errors import UserError, is_out_of_memory


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """One line, as a UserError, for whatever does not fit in a block that reads the checkpoint `path`."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: the parts of this checkpoint do not fit each other ({reason})") from None


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def load_field(field: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Sets a field; an average, where one was kept, is used for everything but training."""
    field.load_state_dict(part(tensors, "field.") | part(tensors, "ema."))
