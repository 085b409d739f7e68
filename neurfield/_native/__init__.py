# SPDX-License-Identifier: Apache-2.0
"""The native core, chosen at import for the instruction set of this machine.

One extension module is built per instruction set (``_baseline``, ``_avx2``, ``_avx512``; baseline is NEON on arm64).
``NEURFIELD_ISA`` forces a lower one; a name that this machine does not run is a UserError, which the command line turns
into one line. ``isa`` and ``lib`` are what was chosen. The CUDA kernels are one more module, ``_cuda``, with the same
functions over device arrays; it is loaded when it is asked for, and loading it starts no CUDA context.
"""

import functools
import importlib
import os
from types import ModuleType

from neurfield.errors import UserError

_baseline = importlib.import_module(f"{__name__}._baseline")


def supported_isas() -> list[str]:
    """Instruction sets that this machine can run, best first."""
    return list(_baseline.supported_isas())


def _load() -> tuple[str, ModuleType]:
    supported = supported_isas()
    isa = os.environ.get("NEURFIELD_ISA") or supported[0]
    if isa not in supported:
        raise UserError(
            f"NEURFIELD_ISA: expected one of {', '.join(supported)} on this machine, got {isa!r}; unset it for the best"
        )
    return isa, importlib.import_module(f"{__name__}._{isa}")


isa, lib = _load()


@functools.cache
def cuda() -> ModuleType | None:
    """The module of CUDA kernels, or None where it was not built."""
    name = f"{__name__}._cuda"
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        return None
