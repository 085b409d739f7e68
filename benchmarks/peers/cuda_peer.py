# SPDX-License-Identifier: Apache-2.0
"""nerfacc and tiny-cuda-nn, where they are installed."""

import functools
import importlib
from types import ModuleType

from benchmarks.peers.field import Unavailable

SOURCES = {
    "nerfacc": "nerfacc",
    "tinycudann": "git+https://github.com/NVlabs/tiny-cuda-nn/#subdirectory=bindings/torch",
}


def load(name: str) -> ModuleType:
    """The module.

    Raises:
        Unavailable: it is not installed, or cannot be loaded.
    """
    try:
        return importlib.import_module(name)
    except Exception as error:  # whatever a peer raises: no device, built for another one or another torch
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise Unavailable(f"{name} is not installed (pip install {SOURCES[name]})") from error
        raise Unavailable(f"{name} cannot be loaded: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


@functools.cache
def found(name: str) -> ModuleType | None:
    """The module or, in one line that is printed once, why there is none."""
    try:
        return load(name)
    except Unavailable as lacking:
        print(f"no peer: {lacking}")
        return None
