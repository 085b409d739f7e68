# SPDX-License-Identifier: Apache-2.0
"""Which kind of signal is shown by what."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from neurfield.errors import UserError
from neurfield.registry import lookup
from neurfield.run import Run
from neurfield.signal_run import SignalRun
from neurfield.viewer.show_grid import grid_data, grid_run
from neurfield.viewer.show_scene import scene_run
from neurfield.viewer.show_shape import shape_data, shape_run
from neurfield.viewer.shown import Shown, curve_of

Version = Callable[[], int]


class Shows(NamedTuple):
    """What shows a kind of signal.

    Attributes:
        run: makes something to show of a run, of its data where they are in memory, and of a count of its changes.
        data: makes something to show of the data, before there is a field.
    """

    run: Callable[[Any, Any, Version], Shown]
    data: Callable[[Any], Shown]


_GRID, _SHAPE = Shows(grid_run, grid_data), Shows(shape_run, shape_data)
SIGNALS: Mapping[str, Shows] = MappingProxyType(
    {"image": _GRID, "video": _GRID, "volume": _GRID, "sdf": _SHAPE, "occupancy": _SHAPE}
)


def shown_run(run: object, data: Any = None, version: Version = lambda: 0) -> Shown:
    """What a viewer shows of a run.

    Args:
        run: trained, or being trained.
        data: what it is trained on, where that is in memory (Photos of a scene, or a signal); None: it is read from its
            files when it is wanted.
        version: grows when the field changes.

    Raises:
        UserError: no run, or one of a kind that has no view.
    """
    if isinstance(run, Run):
        shown = scene_run(run, data, version)
    elif isinstance(run, SignalRun):
        shown = lookup(SIGNALS, run.config.kind, "kind of signal").run(run, data, version)
    else:
        raise UserError(f"expected a run, got {type(run).__name__}")
    if run.path is None:
        return shown
    folder = run.path.absolute().parent.parent  # of RUN/checkpoints/step-..., or of a file alone
    return replace(shown, curve=curve_of(folder))
