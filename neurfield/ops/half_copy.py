# SPDX-License-Identifier: Apache-2.0
"""The float16 copies that tables of grid encodings are read from: half the memory traffic.

A table has one copy, whoever asks. It is renewed where the table has other memory, where torch's version counter says
that the table has changed, and after every gradient of the table, since torch's fused optimisers count no version;
unless who changed the table has written the copy as well (the `copy` of ops.adam_step). Values that are written behind
torch's back (`table.data.copy_`, NumPy) are seen with the next of these.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils.weak import WeakIdKeyDictionary


@dataclass
class _Copy:
    values: Tensor
    memory: StorageWeakRef  # of the table, while this is held no other's
    version: int  # of the table that was copied
    is_due: bool = False  # there has been a gradient since

    def agrees(self, table: Tensor) -> bool:
        """Whether the table has the memory and version that were copied; `module.to`, say, keeps the version."""
        return self.memory.cdata == table.untyped_storage()._cdata and self.version == table._version


_COPIES = WeakIdKeyDictionary()  # table -> _Copy


@torch.no_grad()
def half_copy(table: Tensor) -> Tensor:
    """`table` rounded to float16, made or renewed if need be."""
    # a graph keeps no copies, and tables of torch.func and of inference mode have no memory or version of their own
    if torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active() or table.is_inference():
        return table.detach().half()
    copy = _COPIES.get(table)
    is_same = copy is not None and copy.agrees(table)
    if copy is not None and is_same and not copy.is_due:
        return copy.values
    with torch.inference_mode(False):  # training may read it as well
        if copy is None or copy.values.shape != table.shape or copy.values.device != table.device:
            values = table.detach().half()
        else:
            values = copy.values
            # what torch counts no change of is none to backward passes that are still to come
            (values.data if is_same else values).copy_(table)
    _COPIES[table] = _Copy(values, StorageWeakRef(table.untyped_storage()), table._version)
    return values


def current_half_copy(table: Tensor) -> Tensor | None:
    """The copy if there is one and it agrees with the table as far as torch knows: what an operator that changes both
    is given."""
    copy = _COPIES.get(table)
    return copy.values if copy is not None and copy.agrees(table) else None


def half_copy_is_due(table: Tensor) -> None:
    """Called where there is a gradient of a table that was read in its copy."""
    if table in _COPIES:
        _COPIES[table].is_due = True


def renew_half_copy(table: Tensor) -> None:
    """Renews the copy if there is one."""
    if table in _COPIES:
        half_copy(table)


def mark_half_copy_current(table: Tensor) -> None:
    """Called by who has changed a table and its copy alike."""
    if table in _COPIES:
        _COPIES[table].version, _COPIES[table].is_due = table._version, False
