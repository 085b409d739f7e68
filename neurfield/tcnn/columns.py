# SPDX-License-Identifier: Apache-2.0
"""Which columns tiny-cuda-nn makes of an encoding's outputs: where they are, and the constants that fill the rest.

Networks read a multiple of 16 columns. What is missing is filled at the end, with 0 after a grid and with 1 after every
other encoding (a bias, in effect); spherical harmonics have their ones in front. The parts of a Composite begin at
multiples of what they need, a grid of its features per level, so there may be ones in the middle as well.
"""

import math

import torch
from torch import Tensor

from neurfield.encodings import Composite, Encoding, Grid, SphericalHarmonics
from neurfield.errors import UserError

# of each column: the number of the output that it holds (int), or a constant (float)
Columns = list[int | float]

NETWORK_MULTIPLE = 16


def natural_columns(encoding: Encoding) -> Columns:
    """Of an encoding on its own."""
    return _columns(encoding, None)


def network_columns(encoding: Encoding) -> Columns:
    """Of an encoding in front of a network."""
    multiple = math.lcm(NETWORK_MULTIPLE, _multiple(encoding))
    return _columns(encoding, _rounded(len(natural_columns(encoding)), multiple))


def arrange(outputs: Tensor, columns: Columns) -> Tensor:
    """The columns `[n, len(columns)]` for an encoding's outputs `[n, n_output_dims]`."""
    n = outputs.shape[1]
    if columns == list(range(n)):
        return outputs
    constants = [column for column in columns if isinstance(column, float)]
    source = torch.cat([outputs, outputs.new_tensor(constants).expand(outputs.shape[0], -1)], dim=1)
    next_constant = iter(range(n, n + len(constants)))
    return source[:, [column if isinstance(column, int) else next(next_constant) for column in columns]]


def _rounded(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def _multiple(encoding: Encoding) -> int:
    """Where its first column must lie."""
    if isinstance(encoding, Grid):
        return encoding.config.n_features_per_level
    if isinstance(encoding, Composite):
        return math.lcm(*(_multiple(part) for part in encoding.nested))
    return 1


def _columns(encoding: Encoding, width: int | None) -> Columns:
    """`width` columns, or as few as there can be."""
    if isinstance(encoding, Composite):
        return _side_by_side(encoding, width) if encoding.reduction == "Concatenation" else _reduced(encoding, width)
    n = encoding.n_output_dims
    outputs: Columns = list(range(n))
    constants: Columns = [encoding.padding] * ((n if width is None else width) - n)
    return constants + outputs if isinstance(encoding, SphericalHarmonics) else outputs + constants


def _side_by_side(encoding: Composite, width: int | None) -> Columns:
    parts = [part for part in encoding.nested if part.n_output_dims]
    columns: Columns = []
    first = 0  # output of the part
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        end = width
        if following is not None:
            end = _rounded(len(columns) + len(natural_columns(part)), _multiple(following))
        part_width = None if end is None else end - len(columns)
        columns += [c if isinstance(c, float) else c + first for c in _columns(part, part_width)]
        first += part.n_output_dims
    return columns


def _reduced(encoding: Composite, width: int | None) -> Columns:
    """Sums or products of the parts' columns; a constant meets constants, or the function would be another one."""
    if width is None:
        width = _rounded(max(len(natural_columns(part)) for part in encoding.nested), _multiple(encoding))
    columns: Columns = []
    for column in zip(*(_columns(part, width) for part in encoding.nested), strict=True):
        constants = [value for value in column if isinstance(value, float)]
        if constants and len(constants) < len(column):
            raise UserError(
                f"encoding Composite: tiny-cuda-nn would combine outputs with padding in a {encoding.reduction} "
                "padded to a multiple of 16; keep spherical harmonics out of it, or its width a multiple of 16"
            )
        if constants:
            columns.append(sum(constants) if encoding.reduction == "Sum" else math.prod(constants))
        else:
            columns.append(column[0])
    return columns
