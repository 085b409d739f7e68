# SPDX-License-Identifier: Apache-2.0
"""What a radiance field may depend on beside position and direction."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditions:
    """When, and in which photo's light; one row for each ray or sample, or one for all.

    Attributes:
        times: float32 `[n]` or `[1]`, 0 ... 1; None: 0.
        views: int64 `[n]` or `[1]`, numbers of training views whose look is meant; None: that of no view, their mean.
    """

    times: Tensor | None = None
    views: Tensor | None = None

    def of_rays(self, ray_indices: Tensor) -> "Conditions":
        """Those of samples, of the rays' own: `ray_indices` int64 `[n]` says which ray each sample is of."""
        return Conditions(*(None if v is None else v[ray_indices] for v in self._values))

    def to(self, device: torch.device | str) -> "Conditions":
        """The same on a device."""
        return Conditions(*(None if v is None else v.to(device) for v in self._values))

    @property
    def _values(self) -> list[Tensor | None]:
        return [getattr(self, field.name) for field in fields(self)]
