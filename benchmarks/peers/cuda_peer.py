# SPDX-License-Identifier: Apache-2.0
"""nerfacc and tiny-cuda-nn, where they are installed. Neither has run beside neurfield yet."""

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
    except (ImportError, OSError) as error:  # tinycudann finds no device, say, or was built for another one
        if isinstance(error, ModuleNotFoundError) and error.name == name:
            raise Unavailable(f"{name} is not installed (pip install {SOURCES[name]})") from error
        raise Unavailable(f"{name} cannot be loaded: {str(error).splitlines()[0]}") from error


@functools.cache
def found(name: str) -> ModuleType | None:
    """The module or, in one line that is printed once, why there is none."""
    try:
        return load(name)
    except Unavailable as lacking:
        print(f"no peer: {lacking}")
        return None
