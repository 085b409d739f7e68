# SPDX-License-Identifier: Apache-2.0
"""Several encodings side by side, each on its own columns of the input."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from neurfield.config import Block, from_dict
from neurfield.encodings.encoding import Encoding
from neurfield.errors import UserError

Reduction = Literal["Concatenation", "Sum", "Product"]


@dataclass(frozen=True)
class CompositeConfig:
    """Every nested block may say which columns it reads besides its own keys, see `Columns`."""

    nested: tuple[Block, ...]
    reduction: Reduction = "Concatenation"


@dataclass(frozen=True)
class Columns:
    """Columns of a nested block: `n_dims_to_encode` from `dims_to_encode_begin` on.

    The count may be absent once and is then what the other blocks leave; the begin is by default the end of the block
    before.
    """

    n_dims_to_encode: int | None = None
    dims_to_encode_begin: int | None = None


class Part(NamedTuple):
    """An encoding and the first column that it reads."""

    begin: int
    encoding: Encoding


class Composite(Encoding):
    """Concatenates, adds or multiplies the outputs of its parts.

    Args:
        n_input_dims: columns of the input, each read by at least one part.
        parts: columns may overlap. For a sum or product all have the same number of outputs.
        reduction: "Concatenation" (in the order of parts), "Sum" or "Product".

    Raises:
        UserError: columns outside of the input, columns that no part reads, unequal outputs to add or multiply.
    """

    def __init__(self, n_input_dims: int, parts: Sequence[Part], reduction: Reduction = "Concatenation") -> None:
        widths = [part.encoding.n_output_dims for part in parts]
        _check_columns(n_input_dims, parts)
        if reduction != "Concatenation" and len(set(widths)) != 1:
            raise UserError(f"encoding Composite: reduction {reduction} needs equal output dimensions, got {widths}")
        super().__init__(n_input_dims, sum(widths) if reduction == "Concatenation" else widths[0])
        self.columns = [slice(part.begin, part.begin + part.encoding.n_input_dims) for part in parts]
        self.nested: Any = nn.ModuleList(part.encoding for part in parts)
        self.reduction = reduction

    def forward(self, x: Tensor) -> Tensor:
        self.check(x)
        outputs = [encoding(x[..., columns]) for columns, encoding in zip(self.columns, self.nested, strict=True)]
        if self.reduction == "Concatenation":
            return torch.cat(outputs, dim=1)
        stacked = torch.stack(outputs)
        return stacked.sum(0) if self.reduction == "Sum" else stacked.prod(0)

    @property
    def wants_losses(self) -> bool:
        return any(encoding.wants_losses for encoding in self.nested)

    def after_step(self, x: Tensor, losses: Tensor, progress: float) -> None:
        for columns, module in zip(self.columns, self.nested, strict=True):
            encoding: Any = module
            encoding.after_step(x[..., columns], losses, progress)


def create_composite(
    n_input_dims: int, config: CompositeConfig, create: Callable[[int, Mapping[str, Any]], Encoding]
) -> Composite:
    """Builds the nested blocks with `create(n_input_dims, block)` on the columns that they name."""
    names = set(Columns.__dataclass_fields__)
    columns = [
        from_dict(Columns, {k: v for k, v in block.items() if k in names}, f"encoding Composite: nested[{i}]")
        for i, block in enumerate(config.nested)
    ]
    given = [c.n_dims_to_encode for c in columns if c.n_dims_to_encode is not None]
    if len(columns) - len(given) > 1:
        raise UserError("encoding Composite: only one nested block may leave out n_dims_to_encode")
    if any(n < 0 for n in given) or (sum(given) > n_input_dims and len(given) < len(columns)):
        raise UserError(f"encoding Composite: n_dims_to_encode {given} do not fit {n_input_dims} input dimensions")
    parts, end = [], 0
    for column, block in zip(columns, config.nested, strict=True):
        n_dims = n_input_dims - sum(given) if column.n_dims_to_encode is None else column.n_dims_to_encode
        begin = end if column.dims_to_encode_begin is None else column.dims_to_encode_begin
        parts.append(Part(begin, create(n_dims, {k: v for k, v in block.items() if k not in names})))
        end = begin + n_dims
    return Composite(n_input_dims, parts, config.reduction)


def _check_columns(n_input_dims: int, parts: Sequence[Part]) -> None:
    read: set[int] = set()
    for begin, encoding in parts:
        end = begin + encoding.n_input_dims
        if begin < 0 or end > n_input_dims:
            raise UserError(
                f"encoding Composite: a nested block reads dimensions {begin} ... {end - 1} of {n_input_dims}; "
                "set n_dims_to_encode and dims_to_encode_begin"
            )
        read.update(range(begin, end))
    unread = sorted(set(range(n_input_dims)) - read)
    if unread:
        raise UserError(f"encoding Composite: no nested block reads dimensions {unread} of {n_input_dims}")
