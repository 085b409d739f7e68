# SPDX-License-Identifier: Apache-2.0
"""What a viewer shows of shapes: a distance field with the mesh it was trained on, or the mesh alone. +y is up."""

from collections.abc import Callable
from pathlib import Path

from neurfield.data.scene import Normalization
from neurfield.data.signals.mesh import MeshInfo, MeshSignal
from neurfield.export.sdf_mesh import export_sdf_mesh
from neurfield.export.sdf_points import export_sdf_points
from neurfield.rendering.sphere_trace import Distance
from neurfield.signal_run import SignalRun
from neurfield.viewer.look import Look, Triple, triple
from neurfield.viewer.shape import ShapeStage, cropped
from neurfield.viewer.shown import Exports, Home, Progress, Shown
from neurfield.viewer.triangles import Triangles

_BACK: Triple = (0.5, 0.35, 1.0)
_UP: Triple = (0.0, 1.0, 0.0)
SHOWN_CELLS = 128  # a side of the surface that is made of an occupancy field, anew when it has changed


def shape_run(run: SignalRun, signal: MeshSignal | None, version: Callable[[], int]) -> Shown:
    """A field; `signal` None: the mesh is read from where the run found it."""
    triangles = Triangles(run.signal if signal is None else lambda: signal) if run.config.data else None
    return shown_shape(run.distance(SHOWN_CELLS, version), run.info, triangles, version)


def shape_data(signal: MeshSignal) -> Shown:
    """The mesh itself, before there is a field."""
    frame = _frame(signal.info)
    return Shown(signal.info.name, Home.around(frame, _BACK, _UP), frame, triangles=Triangles(lambda: signal))


def shown_shape(
    field: Distance, info: MeshInfo, triangles: Triangles | None = None, version: Callable[[], int] = lambda: 0
) -> Shown:
    """A distance field over the unit cube, where `info` says that lies; arguments as of ShapeStage."""
    frame = _frame(info)

    def mesh(look: Look, path: Path, resolution: int, progress: Progress) -> int:
        return export_sdf_mesh(cropped(field, look.crop, frame), info, path, resolution, progress=progress).n_faces

    def points(look: Look, path: Path, n_points: int, progress: Progress) -> None:
        export_sdf_points(cropped(field, look.crop, frame), info, path, n_points, progress=progress)

    stage = ShapeStage(field, frame, triangles, version)
    home = Home.around(frame, _BACK, _UP)
    return Shown(info.name, home, frame, stage, Exports(mesh, points), triangles=triangles)


def _frame(info: MeshInfo) -> Normalization:
    return Normalization(info.scale, triple(info.offset))
