# SPDX-License-Identifier: Apache-2.0
"""Which kind of run, and which kind of file, is shown by what."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from neurfield.errors import UserError
from neurfield.run import Run
from neurfield.signal_run import SignalRun
from neurfield.viewer.show_grid import grid_data, grid_run
from neurfield.viewer.show_scene import scene_run
from neurfield.viewer.show_shape import shape_data, shape_run
from neurfield.viewer.shown import Shown, curve_of

Version = Callable[[], int]

# kind of a run: what makes something to show of it, of its data where they are in memory, and of a count of its changes
RUNS: Mapping[str, Callable[[Any, Any, Version], Shown]] = MappingProxyType(
    {
        "radiance": scene_run,
        "image": grid_run,
        "video": grid_run,
        "volume": grid_run,
        "sdf": shape_run,
        "occupancy": shape_run,
    }
)
# kind of a signal: what makes something to show of it before there is a field
SIGNALS: Mapping[str, Callable[[Any], Shown]] = MappingProxyType(
    {
        "image": grid_data,
        "video": grid_data,
        "volume": grid_data,
        "sdf": shape_data,
        "occupancy": shape_data,
    }
)


def shown_run(run: object, data: object = None, version: Version = lambda: 0) -> Shown:
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
        kind = "radiance"
    elif isinstance(run, SignalRun):
        kind = run.config.kind
    else:
        raise UserError(f"expected a run, got {type(run).__name__}")
    if kind not in RUNS:
        raise UserError(f"the viewer cannot show a field of the kind {kind} (it shows: {', '.join(RUNS)})")
    shown = RUNS[kind](run, data, version)
    if run.path is None:
        return shown
    return replace(
        shown, curve=curve_of(run.path.absolute().parent.parent)
    )  # RUN/checkpoints/step-..., or a file alone
