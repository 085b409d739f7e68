# SPDX-License-Identifier: Apache-2.0
"""What a viewer shows of shapes: a distance field with the mesh it was trained on, or the mesh alone. +y is up."""

from collections.abc import Callable
from pathlib import Path

from neurfield.data.scene import Normalization
from neurfield.data.signals.mesh import UP, MeshInfo, MeshSignal
from neurfield.export.occupancy_distance import OccupancyDistance
from neurfield.export.sdf_mesh import export_sdf_mesh
from neurfield.export.sdf_points import export_sdf_points
from neurfield.progress import Progress
from neurfield.rendering.sphere_trace import Distance
from neurfield.signal_kinds import SURFACE_CELLS
from neurfield.signal_run import SignalRun
from neurfield.viewer.look import CropBox, Look, Triple
from neurfield.viewer.shape import ShapeStage, cropped
from neurfield.viewer.shown import Exports, Home, Shown
from neurfield.viewer.triangles import Triangles

_BACK: Triple = (0.5, 0.35, 1.0)
_STEEPNESS = 64.0  # logits per unit of distance from a cut through an occupancy field
SHOWN_CELLS = 128  # a side of the surface that is made of an occupancy field, anew when it has changed


def shape_run(run: SignalRun, signal: MeshSignal | None, version: Callable[[], int]) -> Shown:
    """A field; `signal` None: the mesh is read from where the run found it."""
    triangles = Triangles(run.signal if signal is None else lambda: signal) if run.config.data else None
    return shown_shape(run.distance(SHOWN_CELLS, version), run.info, triangles, version)


def shape_data(signal: MeshSignal) -> Shown:
    """The mesh itself, before there is a field; raises UserError where it is more than a page draws."""
    frame, triangles = signal.info.normalization, Triangles(lambda: signal)
    triangles.check()  # a page would have nothing else to show
    return Shown(signal.info.name, Home.around(frame, _BACK, UP), frame, triangles=triangles)


def shown_shape(
    field: Distance, info: MeshInfo, triangles: Triangles | None = None, version: Callable[[], int] = lambda: 0
) -> Shown:
    """A distance field over the unit cube, where `info` says that lies; arguments as of ShapeStage."""
    frame = info.normalization

    def mesh(look: Look, path: Path, resolution: int, progress: Progress) -> int:
        part = _in_box(field, look.crop, frame, resolution)
        return export_sdf_mesh(part, info, path, resolution, progress=progress).n_faces

    def points(look: Look, path: Path, n_points: int, progress: Progress) -> None:
        part = _in_box(field, look.crop, frame, SURFACE_CELLS)
        export_sdf_points(part, info, path, n_points, progress=progress)

    stage = ShapeStage(field, frame, triangles, version)
    home = Home.around(frame, _BACK, UP)
    return Shown(info.name, home, frame, stage, Exports(mesh, points), triangles=triangles)


def _in_box(field: Distance, crop: CropBox | None, frame: Normalization, n_cells: int) -> Distance:
    """The part of a shape that goes into a file. The surface of an occupancy field is found anew, with `n_cells` along
    its longest side: the one on the stage is coarser."""
    if not isinstance(field, OccupancyDistance):
        return cropped(field, crop, frame)
    logits = field.field
    solid = cropped(lambda x: -logits(x) / _STEEPNESS, crop, frame)
    return OccupancyDistance(lambda x: -_STEEPNESS * solid(x), n_cells)
