# SPDX-License-Identifier: Apache-2.0
"""Fields of no run: a module from anywhere in the package, with nothing known but itself."""

import torch

from neurfield.data.scene import Normalization
from neurfield.data.signals.grid import GridInfo
from neurfield.data.signals.mesh import MARGIN, MeshInfo
from neurfield.errors import UserError
from neurfield.fields.radiance_module import RadianceModule
from neurfield.fields.signal_field import SignalField
from neurfield.rendering.color import BACKGROUNDS
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.signal_kinds import KINDS
from neurfield.training.density import density_over_time
from neurfield.viewer.radiance import RadianceStage
from neurfield.viewer.show_grid import shown_grid
from neurfield.viewer.show_shape import SHOWN_CELLS, shown_shape
from neurfield.viewer.shown import Home, Shown

# Cells per side of the grid that says where a field has density, and how often each is looked at, at random places.
_CELLS, _LOOKS = 64, 4
_SAMPLES = 256  # per axis of a picture or volume whose data nobody knows
_KINDS = tuple(kind for kind in KINDS if kind != "image")  # of fields in three dimensions


def shown_field(field: object, kind: str | None = None, aabb_scale: int = 1) -> Shown:
    """What a viewer shows of a field alone; the unit cube is the world.

    Args:
        field: a radiance field, or a SignalField; it is not changed.
        kind: of a SignalField in three dimensions: "sdf", "occupancy", "video" or "volume"; in two it is an image.
        aabb_scale: side of a radiance field's box, see Normalization.

    Raises:
        UserError: another object, or a kind that does not fit.
    """
    if isinstance(field, RadianceModule):
        if kind is not None:
            raise UserError(f"kind {kind!r} is for fields of signals, this is one of radiance; leave it out")
        return _radiance(field, aabb_scale)
    if not isinstance(field, SignalField):
        raise UserError(f"expected a run, a field, or a path of a run or data, got {type(field).__name__}")
    if aabb_scale != 1:
        raise UserError("aabb_scale is for radiance fields; fields of signals fill the unit cube")
    if field.n_dims == 2 and kind in (None, "image"):
        return shown_grid(field, _info(field, 2))
    if field.n_dims != 3 or kind not in _KINDS:
        raise UserError(
            f"a field of {field.n_dims} coordinates cannot be shown as {kind or 'what it is'}; in 3 dimensions give "
            f"kind=, one of {', '.join(_KINDS)}; in 2 it is an image"
        )
    if distance := KINDS[kind].distance:
        if field.n_channels != 1:
            raise UserError(f"a field of a shape gives one value, this one {field.n_channels}")
        low, high = (0.5 - MARGIN / 2,) * 3, (0.5 + MARGIN / 2,) * 3  # such that its frame is the unit cube
        return shown_shape(distance(field, SHOWN_CELLS, lambda: 0), MeshInfo("field", "", 0, 0, True, low, high))
    return shown_grid(field, _info(field, 3, 30.0 if kind == "video" else None))


def _info(field: SignalField, n_axes: int, fps: float | None = None) -> GridInfo:
    """Values of 0 ... 1 that are shown as they are."""
    if field.n_channels > 4:
        raise UserError(f"a picture has 1 ... 4 channels, this field {field.n_channels}")
    dtype = "uint8" if n_axes == 2 or fps else "float32"
    return GridInfo("field", "", (_SAMPLES,) * n_axes, field.n_channels, dtype, 0.0, 1.0, fps)


def _radiance(field: RadianceModule, aabb_scale: int) -> Shown:
    try:
        grid = OccupancyGrid(aabb_scale, _CELLS)
    except ValueError as error:
        raise UserError(str(error)) from None
    with torch.no_grad():
        for look in range(_LOOKS):
            grid.update(look, density_over_time(field, 0, look))
    frame = Normalization(1.0, (0.0, 0.0, 0.0), aabb_scale)
    stage = RadianceStage(field, grid, frame, MarchOptions.for_box(aabb_scale), BACKGROUNDS["white"])
    return Shown("field", Home.around(frame, (1.0, 0.6, 0.5), (0.0, 0.0, 1.0), 1.8), frame, stage)
