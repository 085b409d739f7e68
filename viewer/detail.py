# SPDX-License-Identifier: Apache-2.0
"""Levels of detail: a field without the finer levels of its grid, as a copy whose tables are zero there. Of a moving
field's grid of motion as large a part of the levels stays, rounded up.

Features of a level that is left out are zero, which is what `max_level` of the grid operators means; a copy does the
same for every way there is to evaluate the field, the fused ones among them.
"""

import copy
import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

import torch
from torch import nn

from neurfield.encodings import Grid

F = TypeVar("F")


class Detail(Generic[F]):
    """Gives a field at levels of detail; the copy that was made last is kept.

    Args:
        field: a module, or anything else that has no levels.
        version: grows when the field changes.
    """

    def __init__(self, field: F, version: Callable[[], int] = lambda: 0) -> None:
        self._field, self._version = field, version
        grids = _grids(field)
        self.n_levels = grids[0].config.n_levels if grids else 0
        self._kept: tuple[tuple[int, int], F] | None = None

    def field(self, level: int | None) -> F:
        """The field with its `level` coarsest levels; the field itself for None and for all of them."""
        if level is None or level >= self.n_levels:
            return self._field
        key = (max(level, 0), self._version())
        if self._kept is None or self._kept[0] != key:
            self._kept = (key, cast(F, _without_levels(self._field, key[0])))
        return self._kept[1]


def _grids(field: object) -> list[Grid]:
    """The grid whose levels are counted, then those that are cut in proportion; none where that is no grid."""
    parts = [getattr(field, name, None) for name in ("encoding", "motion_encoding")]
    return [part for part in parts if isinstance(part, Grid)] if isinstance(parts[0], Grid) else []


@torch.no_grad()
def _without_levels(field: Any, n_kept: int) -> nn.Module:
    coarse = copy.deepcopy(field)
    grids = _grids(coarse)
    for grid in grids:
        config = grid.config
        first = math.ceil(config.n_levels * n_kept / grids[0].config.n_levels)
        if first < config.n_levels:
            grid.params[config.levels()[first].offset * config.n_features_per_level :] = 0
    coarse.load_state_dict(coarse.state_dict())  # lets it refresh what it derives from its parameters
    return coarse
