# SPDX-License-Identifier: Apache-2.0
"""A drop-in for `import tinycudann as tcnn`, made of neurfield's encodings and networks: the same modules, JSON keys,
defaults and flat parameters, on the CPU as well.

    import sys
    import neurfield.tcnn
    sys.modules["tinycudann"] = neurfield.tcnn      # code written for tiny-cuda-nn now runs without it

Where it differs, on purpose: outputs are float32 on the CPU (docs/interop.md has the list).
"""

import gc
import os

from neurfield.tcnn.modules import Encoding, Network, NetworkWithInputEncoding
from neurfield.tcnn.weights import flat_params, load_flat_params

__all__ = [
    "Encoding",
    "Network",
    "NetworkWithInputEncoding",
    "flat_params",
    "free_temporary_memory",
    "load_flat_params",
    "rtc_set_cache_dir",
    "supports_jit_fusion",
]


def free_temporary_memory() -> None:
    """Collects garbage; there are no buffers to free beside torch's own."""
    gc.collect()


def supports_jit_fusion() -> bool:
    """False: nothing is compiled at run time."""
    return False


def rtc_set_cache_dir(path: str | os.PathLike[str]) -> None:
    """Does nothing, as nothing is compiled at run time."""
