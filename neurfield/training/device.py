# SPDX-License-Identifier: Apache-2.0
"""Which device a run uses, and why CUDA is not it."""

from typing import Literal

import torch

from neurfield._native import lib
from neurfield.errors import UserError


def why_not_cuda() -> str | None:
    """The reason why this installation cannot run on CUDA, or None where it can."""
    if not hasattr(lib, "cuda_devices"):
        return "this build of neurfield has no CUDA kernels"
    if torch.version.cuda is None:
        return f"the installed torch {torch.__version__} is a build without CUDA"
    if not torch.cuda.is_available():
        return "torch finds no CUDA device or driver"
    return None


def resolve_device(name: str) -> Literal["cpu", "cuda"]:
    """`cpu` or `cuda` for `auto`, `cpu`, `cuda`.

    Raises:
        UserError: cuda was asked for where it cannot be used, or the name is none of these.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise UserError(f"device: expected auto, cpu or cuda, got {name!r}")
    reason = why_not_cuda()
    if name == "cuda" and reason:
        raise UserError(f"device cuda cannot be used: {reason}; use --device cpu")
    return "cpu" if name == "cpu" or reason else "cuda"
