# SPDX-License-Identifier: Apache-2.0
"""`neurfield export`: triangles, the points that are seen, a page to look around in, or the cameras of a run."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from neurfield.cli._console import Progress
from neurfield.errors import UserError
from neurfield.export.cameras import export_cameras
from neurfield.export.mesh import MeshExport, export_mesh
from neurfield.export.point_cloud import checked_path, export_point_cloud
from neurfield.export.sdf_points import export_sdf_points
from neurfield.export.web_page import export_web
from neurfield.geometry.mesh_files import files_of_mesh
from neurfield.run import load_scene_run
from neurfield.signal_run import SignalRun, holds_signal, load_signal_run
from neurfield.training.run_folder import find_checkpoint


@dataclass(frozen=True, kw_only=True)
class _ExportOptions:
    """What every export is told."""

    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    output: Path  # comes first in the help; what may be written is said by each
    overwrite: bool = False
    """Replace a file that exists."""


@dataclass(frozen=True, kw_only=True)
class _LookOptions(_ExportOptions):
    appearance: int | None = None
    """Of a field that tells photos apart: the number of the training view whose colours are wanted (default: the
    mean)."""


@dataclass(frozen=True, kw_only=True)
class _MomentOptions(_LookOptions):
    time: float | None = None
    """Of a field that moves, 0 ... 1 (default: 0)."""


@dataclass(frozen=True, kw_only=True)
class MeshOptions(_MomentOptions):
    """Triangles with colours where the training views see something, or at the surface of a shape."""

    output: Path
    """File to write: .glb, .ply or .obj, or .stl, for printers, without colours; of an .obj with a texture NAME.mtl and
    NAME.png, too, beside it."""
    overwrite: bool = False
    """Replace a file that exists, also NAME.mtl and NAME.png."""
    resolution: int = 256
    """Cells along the longest side of what is there."""
    level: Annotated[str, tyro.conf.arg(metavar="auto|FLOAT")] = "auto"
    """auto: the surface that the training views see, by the depths rendered in them; or a density per world unit."""
    frame: Literal["world", "unit"] = "world"
    """world: that of the input data; unit: the field's own cube."""
    min_component: float = 0.01
    """Drop pieces with fewer triangles than this share of the largest piece."""
    extent: int | None = None
    """Side of the cube that is looked at: 1: what the cameras look at; 2, 4, ... up to the box of the scene: more of
    its surroundings, in larger cells unless --resolution is raised, too (default: 1, or 2 where that holds all that
    the training views see and 1 does not hold most of it, as of a facade)."""
    surface: Literal["auto", "closed", "seen"] = "auto"
    """closed: with what is hidden from all training views, solid; seen: without triangles that no training view sees;
    auto: seen where the scene has surroundings, behind whose surfaces nothing was photographed."""
    max_triangles: int | None = None
    """About as many are left, where they change the surface least (default: all; under a texture 50 000)."""
    texture: int | None = None
    """Colours in a texture of so many texels a side, 2048 for example, for .glb or .obj (default: in the vertices)."""


@dataclass(frozen=True, kw_only=True)
class PointCloudOptions(_MomentOptions):
    """What the training views see, as points with colours, or points on the surface of a shape, with normals."""

    output: Path
    """File to write: .ply, in the frame of the input data."""
    num_points: int = 1_000_000
    """At most so many points of a scene, exactly so many of a shape."""


@dataclass(frozen=True, kw_only=True)
class WebOptions(_LookOptions):
    """One HTML file that draws the field itself, in any browser with WebGL 2: to mail, host or open from a disk."""

    output: Path
    """File to write: .html."""


@dataclass(frozen=True, kw_only=True)
class CamerasOptions(_ExportOptions):
    """Where the cameras of a run stand, refined or not, as a transforms.json of nerfstudio."""

    output: Path
    """File to write: .json, best in the folder of the data (DATA/refined.json), as it names images from where it is."""
    data: str | None = None
    """Where the images are now (default: where they were)."""


def export_triangles(options: MeshOptions) -> int:
    if holds_signal(options.run):
        return _export_shape(options)
    level = _level(options.level)
    trained = load_scene_run(options.run, "export mesh").at(options.time, options.appearance)
    with Progress("export mesh") as progress:
        done = export_mesh(
            trained, options.output, options.resolution, level, options.frame, options.min_component,
            options.extent, options.surface, options.max_triangles, options.texture, options.overwrite,
            progress.update,
        )  # fmt: skip
    found = done.report
    low, high = (", ".join(f"{v:.3f}" for v in corner) for corner in (found.low, found.high))
    frame = trained.views.normalization.world if done.frame == "world" else "unit frame"
    files = ", ".join(map(str, files_of_mesh(done.path, options.texture is not None)))
    print(f"{found.describe()}; surface by {done.found_by}; {frame}, [{low}] ... [{high}]; written to {files}")
    if done.n_hidden:
        print(
            f"note: left out {done.n_hidden} triangles that no training view sees; --surface closed gives a closed mesh"
        )
    if note := _extent_note(done, trained.grid.aabb_scale):
        print(f"note: {note}")
    return 0


def _extent_note(done: MeshExport, box: int) -> str:
    """What the cube that was looked at leaves out, or why it is a larger one; empty where there is nothing to say."""
    holds = "" if done.unit_share is None else f"holds {done.unit_share:.0%} of what the training views see"
    if holds and done.extent > 1:
        return f"the cube of side 1 {holds}, so that of side {done.extent} was taken; --extent 1 has smaller cells"
    if not done.is_cut:
        return ""
    wider = 2 * done.extent
    way = f"{wider} looks further, {box} at all of it" if wider < box else f"{box} looks at all of it"
    return f"the scene reaches beyond the cube of side {done.extent}{holds and f', which {holds}'}; --extent {way}"


def export_points(options: PointCloudOptions) -> int:
    checked_path(options.output, options.num_points, options.overwrite)
    n = options.num_points
    if holds_signal(options.run):
        shape = _shape(options)
        with Progress("export pointcloud") as progress:
            export_sdf_points(shape.distance(), shape.info, options.output, n, options.overwrite, progress.update)
        world = shape.info.normalization.world
    else:
        trained = load_scene_run(options.run, "export pointcloud").at(options.time, options.appearance)
        with Progress("export pointcloud") as progress:
            n = export_point_cloud(trained, options.output, n, options.overwrite, progress.update)
        world = trained.views.normalization.world
    print(f"{n} points; {world}; written to {options.output}")
    return 0


def export_page(options: WebOptions) -> int:
    trained = load_scene_run(options.run, "export web")
    if options.appearance is not None:
        trained = trained.at(appearance=options.appearance)
    path = export_web(trained, options.output, options.overwrite)
    print(f"{path.stat().st_size / 1e6:.1f} MB; written to {path}; open it in a browser: {path.resolve().as_uri()}")
    return 0


def write_cameras(options: CamerasOptions) -> int:
    trained = load_scene_run(options.run, "export cameras")
    is_near = export_cameras(trained, options.output, options.data, options.overwrite)
    print(f"{len(trained.cameras)} cameras; world frame; written to {options.output}")
    if not is_near:
        print("note: images lie outside of its folder: read it with --allow-outside, or write it into that of the data")
    return 0


def _export_shape(options: MeshOptions) -> int:
    if options.level != "auto" or options.extent is not None or options.surface != "auto":
        raise UserError(
            "--level, --extent and --surface are for scenes; the surface of a shape is at distance 0 or occupancy 1/2"
        )
    if options.texture is not None:
        raise UserError("--texture is for scenes; a shape has no colours")
    shape = _shape(options)
    with Progress("export mesh") as progress:
        found = shape.export_mesh(
            options.output, resolution=options.resolution, frame=options.frame,
            min_component=options.min_component, max_triangles=options.max_triangles, overwrite=options.overwrite,
            progress=progress.update,
        )  # fmt: skip
    frame = shape.info.normalization.world if options.frame == "world" else "unit frame"
    print(f"{found.describe()}; {frame}; written to {options.output}")
    return 0


def _shape(options: MeshOptions | PointCloudOptions) -> SignalRun:
    """The run of a single file, less what is for scenes."""
    if options.time is not None or options.appearance is not None:
        raise UserError("--time and --appearance are for scenes; leave them out")
    shape = load_signal_run(find_checkpoint(options.run))
    if not shape.step:
        raise UserError(f"{options.run}: step 0, nothing was learned that has a surface; train with a larger budget")
    return shape


def _level(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise UserError(f"--level must be auto or a number, got {text!r}") from None


COMMANDS = {
    "mesh": (MeshOptions, export_triangles),
    "pointcloud": (PointCloudOptions, export_points),
    "web": (WebOptions, export_page),
    "cameras": (CamerasOptions, write_cameras),
}
