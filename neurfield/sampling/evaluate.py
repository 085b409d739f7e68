# SPDX-License-Identifier: Apache-2.0
"""A field at more points than it should be asked for at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from neurfield.progress import Progress, silent

AT_ONCE = 1 << 18  # points per call of the field; bounds memory


def evaluate(fn: Callable[[Tensor], Tensor], points: Tensor, progress: Progress = silent) -> Tensor:
    """`fn` of many points `[n, ...]`, in chunks, as float32 and without gradients."""
    parts: list[Tensor] = []
    chunks = points.split(AT_ONCE)
    with torch.no_grad():
        for chunk in chunks:
            parts.append(fn(chunk).float())
            progress(len(parts) / len(chunks))
    return torch.cat(parts)
