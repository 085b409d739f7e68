# SPDX-License-Identifier: Apache-2.0
"""A field at more points than it should be asked for at once."""

from collections.abc import Callable

import torch
from torch import Tensor

from neurfield.progress import Progress, silent

AT_ONCE = 1 << 18  # points per call of the field; bounds memory


def evaluate(fn: Callable[[Tensor], Tensor], points: Tensor, progress: Progress = silent) -> Tensor:
    """`fn` of many points `[n, ...]`, in chunks, as float32 and without gradients.

    Raises:
        TypeError: `fn` gives no tensor.
    """
    parts: list[Tensor] = []
    chunks = points.split(AT_ONCE)
    with torch.no_grad():
        for chunk in chunks:
            values = fn(chunk)
            if not isinstance(values, Tensor):
                raise TypeError(
                    f"expected a function of points that gives a torch.Tensor, got a {type(values).__name__} "
                    "(the `density` of a field gives sigma and features: lambda x: field.density(x)[0])"
                )
            parts.append(values.float())
            progress(len(parts) / len(chunks))
    return torch.cat(parts)
