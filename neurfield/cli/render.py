# SPDX-License-Identifier: Apache-2.0
"""`neurfield render`: a split, an orbit or a camera path of a trained run, as a folder of pictures or as a video."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.path_files import NGP_OFFSET, NGP_SCALE, read_camera_path
from neurfield.cameras.poses import up
from neurfield.cli._console import Progress
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Normalization
from neurfield.errors import UserError
from neurfield.export.views import check_views_export, export_views, is_picture, is_video
from neurfield.files import refuse_existing
from neurfield.rendering.outputs import DEPTH_KINDS
from neurfield.rendering.renderer import OUTPUTS
from neurfield.rendering.video import DEFAULT_FPS
from neurfield.rendering.writers import DEPTH_WRITERS
from neurfield.run import Run, load_scene_run
from neurfield.signal_kinds import SignalRender
from neurfield.signal_run import holds_signal, load_signal_run
from neurfield.training.run_folder import find_checkpoint

_FAR_SIDES = 100  # of the field's box: no path of it goes there, poses in another frame do
_FAR_TURN = 45  # degrees: half of what an object of which a corner is seen shows


@dataclass(frozen=True)
class RenderOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    output: Path
    """Folder for pictures, or a video: a name that ends in .mp4, .mov or .mkv, or, of one view, in .png;
    of a single file's field, a file."""
    split: str | None = None
    """Views of this split (default: test, unless another source of views is given)."""
    orbit: int | None = None
    """This many views on a turn around the scene."""
    interpolate: int | None = None
    """This many views from the first to the last training view, smoothly through all in their order."""
    camera_path: Path | None = None
    """JSON file of nerfstudio (camera_path.json) or instant-ngp (base_cam.json)."""
    panorama: bool = False
    """Show all around, 360 degrees, from where the views stand: level, as high as they are and twice as wide."""
    outputs: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{{{','.join(OUTPUTS)}}} ...")] = ("rgb",)
    """What to show; a video has them side by side."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the field is evaluated: auto is CUDA where it can be used."""
    downscale_factor: float = 1.0
    """Divide width and height by this."""
    rays_per_pixel: Literal[1, 4, 9, 16] | None = None
    """Rays whose mean is a pixel (default: as the run was trained); fewer are faster, more are smoother."""
    time: float | None = None
    """Of a field that moves, 0 ... 1 (default: that of each view or of the camera path; on an orbit or a path that says
    none it runs from 0 to 1)."""
    appearance: int | None = None
    """Of a field that tells photos apart: the number of the training view whose look is wanted (default: the mean)."""
    elevation: float | None = None
    """Degrees of the orbit above the horizon (default: the median of the training views)."""
    fps: float | None = None
    """Pictures per second of a video of a scene or a shape (default: the camera path's, else 30)."""
    seconds: float | None = None
    """Length of an instant-ngp path (default: one second per keyframe)."""
    depth_format: Annotated[str, tyro.conf.arg(metavar="|".join(DEPTH_WRITERS))] = "npy"
    """npy and exr: float32 world units; png: 16 bits, thousandths of one."""
    depth_kind: Annotated[str, tyro.conf.arg(metavar="|".join(DEPTH_KINDS))] = "z"
    """z: along the optical axis; ray: distance from the camera, as panoramas always have it."""
    resolution: tuple[int, ...] | None = None
    """Of an image WIDTH HEIGHT, of a video also with the number of pictures, of a volume one number per axis."""
    scale: float = 1.0
    """Of an image, video or volume: this many times the resolution of the data."""
    overwrite: bool = False
    """Replace a file, or a folder that this command has made."""


_OF_SCENES = (
    "split", "interpolate", "camera_path", "panorama", "outputs", "downscale_factor", "rays_per_pixel", "time",
    "appearance", "seconds", "depth_format", "depth_kind",
)  # fmt: skip


@dataclass(frozen=True)
class Views:
    """What is to be rendered: cameras in the world frame, a name for each, and the rate they are meant to play at."""

    cameras: Cameras
    names: list[str]
    fps: float


def run(options: RenderOptions) -> int:
    if holds_signal(options.run):
        return _render_signal(options)
    if options.resolution is not None or options.scale != 1:
        find_checkpoint(options.run)  # what is no run is told of first
        raise UserError("--resolution and --scale are for images, videos and volumes; scenes have --downscale-factor")
    _check(options)
    trained = load_scene_run(options.run, "this command")
    trained.check_conditions(options.time, options.appearance)
    trained.to(options.device)
    views, notes = choose_views(trained, options)
    for note in notes:
        print(note)
    if options.rays_per_pixel is not None:
        trained.renderer.rays_per_pixel = options.rays_per_pixel
    with Progress("render") as progress:
        export_views(
            trained, options.output, views.cameras, options.outputs, views.names, views.fps, options.depth_format,
            options.depth_kind, options.overwrite, progress.update, options.appearance,
        )  # fmt: skip
    kind = "a video of " if is_video(options.output) else "a picture of " if is_picture(options.output) else ""
    n = len(views.names)
    print(f"{kind}{n} view{'s' if n > 1 else ''} ({', '.join(options.outputs)}) written to {options.output}")
    return 0


def _render_signal(options: RenderOptions) -> int:
    asked = SignalRender(
        options.resolution, options.scale, 1 if options.orbit is None else options.orbit, options.elevation,
        DEFAULT_FPS if options.fps is None else options.fps,
    )  # fmt: skip
    for name in _OF_SCENES:
        if getattr(options, name) != getattr(RenderOptions, name):
            raise UserError(f"--{name.replace('_', '-')} is for scenes, and {options.run} is none; leave it out")
    refuse_existing(options.output, options.overwrite)
    trained = load_signal_run(find_checkpoint(options.run))
    trained.to(options.device)
    for name in ("orbit", "elevation", "fps"):
        if getattr(options, name) is not None and trained.kind.distance is None:
            raise UserError(
                f"--{name} is for scenes and shapes, and {options.run} is one of kind {trained.config.kind}"
            )
    with Progress("render") as progress:
        trained.render(options.output, asked, options.overwrite, progress.update)
    print(f"written to {options.output}")
    return 0


def _check(options: RenderOptions) -> None:
    """Refuses what can be refused before a run is loaded."""
    sources = [options.split, options.orbit, options.interpolate, options.camera_path]
    if sum(source is not None for source in sources) > 1:
        raise UserError("give one of --split, --orbit, --interpolate and --camera-path")
    if not 1 <= options.downscale_factor <= 1024:
        raise UserError(f"--downscale-factor must be 1 ... 1024, got {options.downscale_factor:g}")
    if options.seconds is not None and not 0 < options.seconds <= 3600:
        raise UserError(f"--seconds must be above 0 and at most 3600, got {options.seconds:g}")
    fps = DEFAULT_FPS if options.fps is None else options.fps
    check_views_export(
        options.output, options.outputs, fps, options.depth_format, options.depth_kind, options.overwrite
    )
    has_depth = "depth" in options.outputs
    for name, wanted, is_there in (
        ("elevation", "--orbit", options.orbit is not None),
        ("seconds", "--camera-path", options.camera_path is not None),
        ("depth_format", "depth among --outputs", has_depth),
        ("depth_kind", "depth among --outputs", has_depth),
    ):
        if not is_there and getattr(options, name) != getattr(RenderOptions, name):
            raise UserError(f"--{name.replace('_', '-')} says something only with {wanted}; give that, or leave it out")


def choose_views(trained: Run, options: RenderOptions) -> tuple[Views, list[str]]:
    """The views that the options ask for, downscaled, and notes for the user."""
    names, notes, fps, has_times = None, [], options.fps or DEFAULT_FPS, False
    train = trained.cameras[trained.views.train]
    if options.camera_path:
        n_frames = max(round(options.seconds * fps), 1) if options.seconds else None
        width, height = train.sizes[0].tolist()
        frame = ngp_frame(trained.views.normalization, trained.config.load)
        found = read_camera_path(options.camera_path, n_frames, (width, height), *frame)
        cameras, fps = found.cameras, options.fps or found.fps or DEFAULT_FPS
        notes = [*found.notes, *_afar(trained.views.normalization, cameras)]
        has_times = found.has_times
    elif options.orbit is not None:
        cameras = paths.orbit(train, options.orbit, options.elevation)
        notes = _unseen(train, cameras)
    elif options.interpolate is not None:
        cameras = paths.interpolate(train, options.interpolate)
    else:
        indices = trained.views.views(options.split or "test")
        cameras, has_times = trained.cameras[indices], True
        stems = [Path(trained.views.paths[i]).stem for i in indices] if trained.views.paths else []
        names = stems if len(set(stems)) == len(indices) else None
    if options.panorama:
        cameras = paths.panoramas(cameras, up(train.c2w.double().numpy()))
    if options.downscale_factor != 1:
        cameras = cameras.resized(1 / options.downscale_factor)
    if trained.is_dynamic:
        cameras = _timed(cameras, options, has_times)
    return Views(cameras, names or [f"{i:05d}" for i in range(len(cameras))], fps), notes


def _unseen(train: Cameras, orbit: Cameras) -> list[str]:
    """A note where an orbit leaves what the photos were taken around, as behind a wall."""
    n = int((paths.turn_to_nearest(train, orbit) > _FAR_TURN).sum())
    if n == 0:
        return []
    return [
        f"note: {n} of {len(orbit)} views more than {_FAR_TURN} degrees around from every training view: they show "
        "what no photo has seen; --interpolate N stays with the photos"
    ]


def _afar(normalization: Normalization, path: Cameras) -> list[str]:
    """A note where views of a camera path see nothing of the scene, as those in another frame."""
    away = (normalization.to_unit(path.c2w[:, :3, 3]) - 0.5).abs().amax(dim=1) / normalization.aabb_scale
    n = int((away > _FAR_SIDES).sum())
    if n == 0:
        return []
    return [
        f"note: {n} of {len(path)} views are more than {_FAR_SIDES} sides of the field's box away from it; poses of a "
        f"path are taken in the {normalization.world}"
    ]


def _timed(cameras: Cameras, options: RenderOptions, has_times: bool) -> Cameras:
    """Cameras of the times that the options ask for, else of their own, else of times that run from 0 to 1."""
    times = cameras.times if has_times else torch.linspace(0, 1, len(cameras))
    if options.time is not None:
        times = torch.full_like(times, options.time)
    if not bool(((times >= 0) & (times <= 1)).all()):
        raise UserError(
            f"{options.camera_path}: 'render_time' must be 0 ... 1, found {float(times.min()):g} ... "
            f"{float(times.max()):g}; give --time, or correct the file"
        )
    return replace(cameras, times=times)


def ngp_frame(normalization: Normalization, load: LoadOptions) -> tuple[float, tuple[float, float, float]]:
    """Scale and offset with which instant-ngp reads the data of a run: those of the file if it gives any."""
    is_of_file = normalization.source == "given" and load.scale is None and load.offset is None
    return (normalization.scale, normalization.offset) if is_of_file else (NGP_SCALE, NGP_OFFSET)
