# SPDX-License-Identifier: Apache-2.0
"""Whose estimators a sampler takes: those of this package, or nerfacc's own, where it is installed with CUDA."""

import sys
from typing import Any

from neurfield.errors import UserError

# types of devices that each one's estimators run on
DEVICES = {"neurfield": ("cpu", "cuda"), "nerfacc": ("cuda",)}


def estimators(backend: str, kind: str, device: str) -> Any:
    """A module with `OccGridEstimator` and `PropNetEstimator`.

    Args:
        backend: one of DEVICES.
        kind: of the sampler, for messages.
        device: type of the device that it is to run on.

    Raises:
        UserError: nerfacc does not run on that device, is not installed, or has no kernels.
    """
    if backend == "neurfield":
        return sys.modules[__package__]
    if device not in DEVICES[backend]:
        raise UserError(
            f"sampler {kind}: backend nerfacc runs on {' and '.join(DEVICES[backend])} only, this run is on {device}; "
            "use --device cuda, or leave backend out"
        )
    try:
        import nerfacc
        from nerfacc.cuda import _backend  # builds its kernels, where they are not there yet
    except (ImportError, OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    else:
        if _backend._C is not None:
            return nerfacc
        reason = "it has no kernels and finds no CUDA toolkit to build them with"
    raise UserError(
        f"sampler {kind}: backend nerfacc needs nerfacc with CUDA ({reason}); pip install nerfacc, or leave backend out"
    )
