# SPDX-License-Identifier: Apache-2.0
"""The float16 copies that tables of grid encodings are read from: half the memory traffic.

A table has one copy, whoever asks. It is renewed where torch's version counter says that the table has changed, unless
who changed it has written the copy as well (the `copy` of ops.adam_step).
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary


@dataclass
class _Copy:
    values: Tensor
    version: int  # of the table that was copied


_COPIES = WeakIdKeyDictionary()  # table -> _Copy


@torch.no_grad()
def half_copy(table: Tensor) -> Tensor:
    """`table` rounded to float16, made or renewed if need be.

    A module that moves to another device keeps the parameter and its version.
    """
    copy = _COPIES.get(table)
    if copy is None or copy.values.shape != table.shape or copy.values.device != table.device:
        copy = _COPIES[table] = _Copy(table.detach().half(), table._version)
    elif copy.version != table._version:
        copy.values.copy_(table)
        copy.version = table._version
    return copy.values


def current_half_copy(table: Tensor) -> Tensor | None:
    """The copy if there is one and it agrees with the table: what an operator that changes both is given."""
    copy = _COPIES.get(table)
    is_current = copy is not None and copy.version == table._version and copy.values.device == table.device
    return copy.values if is_current else None


def renew_half_copy(table: Tensor) -> None:
    """Renews the copy if there is one."""
    if table in _COPIES:
        half_copy(table)


def mark_half_copy_current(table: Tensor) -> None:
    """Called by who has changed a table and its copy alike."""
    if table in _COPIES:
        _COPIES[table].version = table._version
