# SPDX-License-Identifier: Apache-2.0
"""`neurfield render`: a split, an orbit or a camera path of a trained run, as a folder of pictures or as a video."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.path_files import NGP_OFFSET, NGP_SCALE, read_camera_path
from neurfield.cli._console import Progress
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Normalization
from neurfield.errors import UserError
from neurfield.files import atomic_folder, atomic_path, refuse_existing
from neurfield.registry import lookup
from neurfield.rendering import video
from neurfield.rendering.outputs import DEPTH_KINDS, depth_map, depth_range, picture
from neurfield.rendering.renderer import OUTPUTS
from neurfield.rendering.video import VideoWriter
from neurfield.rendering.writers import DEPTH_WRITERS, FolderWriter, import_openexr
from neurfield.run import Run, load

DEFAULT_FPS = 30.0


@dataclass(frozen=True)
class RenderOptions:
    run: tyro.conf.Positional[Path]
    """Run folder or .safetensors file."""
    output: Path
    """Folder for pictures, or a video: a name that ends in .mp4, .mov or .mkv."""
    split: str | None = None
    """Views of this split (default: test, unless another source of views is given)."""
    orbit: int | None = None
    """This many views on a turn around the scene."""
    interpolate: int | None = None
    """This many views from the first to the last training view."""
    camera_path: Path | None = None
    """JSON file of nerfstudio (camera_path.json) or instant-ngp (base_cam.json)."""
    outputs: Annotated[tuple[str, ...], tyro.conf.arg(metavar=f"{{{','.join(OUTPUTS)}}} ...")] = ("rgb",)
    """What to show; a video has them side by side."""
    downscale_factor: float = 1.0
    """Divide width and height by this."""
    elevation: float | None = None
    """Degrees of the orbit above the horizon (default: the median of the training views)."""
    fps: float | None = None
    """Pictures per second of a video (default: the camera path's, else 30)."""
    seconds: float | None = None
    """Length of an instant-ngp path (default: one second per keyframe)."""
    depth_format: Annotated[str, tyro.conf.arg(metavar="|".join(DEPTH_WRITERS))] = "npy"
    """npy and exr: float32 world units; png: 16-bit millimetres."""
    depth_kind: Annotated[str, tyro.conf.arg(metavar="|".join(DEPTH_KINDS))] = "z"
    """z: along the optical axis; ray: distance from the camera."""
    overwrite: bool = False
    """Replace an output that exists."""


@dataclass(frozen=True)
class Views:
    """What is to be rendered: cameras in the world frame, a name for each, and the rate they are meant to play at."""

    cameras: Cameras
    names: list[str]
    fps: float


def run(options: RenderOptions) -> int:
    _check(options)
    trained = load(options.run)
    views, notes = choose_views(trained, options)
    for note in notes:
        print(note)
    target = _video(options, views) if options.output.suffix in video.SUFFIXES else _folder(options)
    with Progress("render") as progress, target as writer:
        for i, (name, values, camera) in enumerate(render_views(trained, views, options)):
            writer.add(name, values, camera)
            progress.update((i + 1) / len(views.names), f"{i + 1}/{len(views.names)} views")
    kind = "a video of " if options.output.suffix in video.SUFFIXES else ""
    print(f"{kind}{len(views.names)} views ({', '.join(options.outputs)}) written to {options.output}")
    return 0


def _check(options: RenderOptions) -> None:
    """Refuses what can be refused before a run is loaded."""
    sources = [options.split, options.orbit, options.interpolate, options.camera_path]
    if sum(source is not None for source in sources) > 1:
        raise UserError("give one of --split, --orbit, --interpolate and --camera-path")
    for name in options.outputs:
        lookup(OUTPUTS, name, "output")
    lookup(DEPTH_WRITERS, options.depth_format, "depth format")
    lookup(DEPTH_KINDS, options.depth_kind, "kind of depth")
    if not options.outputs or len(set(options.outputs)) < len(options.outputs):
        raise UserError(f"--outputs needs different names of {', '.join(OUTPUTS)}")
    if not 1 <= options.downscale_factor <= 1024:
        raise UserError(f"--downscale-factor must be 1 ... 1024, got {options.downscale_factor:g}")
    if options.fps is not None and not 0 < options.fps <= video.MAX_FPS:
        raise UserError(f"--fps must be above 0 and at most {video.MAX_FPS:g}, got {options.fps:g}")
    if options.seconds is not None and not 0 < options.seconds <= 3600:
        raise UserError(f"--seconds must be above 0 and at most 3600, got {options.seconds:g}")
    if options.depth_format == "exr" and "depth" in options.outputs:
        import_openexr()
    refuse_existing(options.output, options.overwrite)


def choose_views(trained: Run, options: RenderOptions) -> tuple[Views, list[str]]:
    """The views that the options ask for, downscaled, and notes for the user."""
    names, notes, fps = None, [], options.fps or DEFAULT_FPS
    train = trained.cameras[trained.views.views("train")] if trained.views.splits.get("train") else trained.cameras
    if options.camera_path:
        n_frames = max(round(options.seconds * fps), 1) if options.seconds else None
        width, height = train.sizes[0].tolist()
        frame = ngp_frame(trained.views.normalization, trained.config.load)
        found = read_camera_path(options.camera_path, n_frames, (width, height), *frame)
        cameras, notes, fps = found.cameras, found.notes, options.fps or found.fps or DEFAULT_FPS
    elif options.orbit is not None:
        cameras = paths.orbit(train, options.orbit, options.elevation)
    elif options.interpolate is not None:
        cameras = paths.interpolate(train, options.interpolate)
    else:
        indices = trained.views.views(options.split or "test")
        cameras = trained.cameras[indices]
        stems = [Path(trained.views.paths[i]).stem for i in indices] if trained.views.paths else []
        names = stems if len(set(stems)) == len(indices) else None
    if options.downscale_factor != 1:
        cameras = cameras.resized(1 / options.downscale_factor)
    return Views(cameras, names or [f"{i:05d}" for i in range(len(cameras))], fps), notes


def ngp_frame(normalization: Normalization, load: LoadOptions) -> tuple[float, tuple[float, float, float]]:
    """Scale and offset with which instant-ngp reads the data of a run: those of the file if it gives any."""
    is_of_file = normalization.source == "given" and load.scale is None and load.offset is None
    return (normalization.scale, normalization.offset) if is_of_file else (NGP_SCALE, NGP_OFFSET)


def render_views(
    trained: Run, views: Views, options: RenderOptions
) -> Iterator[tuple[str, dict[str, Tensor], Cameras]]:
    """Name, outputs and camera of each view, rendered when asked for."""
    needed = {*options.outputs, "accumulation"} if "depth" in options.outputs else set(options.outputs)
    for i, name in enumerate(views.names):
        camera = views.cameras[i]
        result = trained.render(camera, sorted(needed))
        values = {output: result[output] for output in options.outputs}
        if "depth" in values:
            values["depth"] = depth_map(result, camera, options.depth_kind)
        yield name, values, camera


@contextmanager
def _folder(options: RenderOptions) -> Iterator[FolderWriter]:
    with atomic_folder(options.output) as folder:
        writer = FolderWriter(folder, options.outputs, options.depth_format, options.depth_kind)
        yield writer
        writer.close()


class _SideBySide:
    """Puts the outputs of a view next to each other; the first view decides the colours of depth."""

    def __init__(self, writer: VideoWriter) -> None:
        self._writer = writer
        self._range: tuple[float, float] | None = None

    def add(self, name: str, values: dict[str, Tensor], camera: Cameras) -> None:
        if "depth" in values and self._range is None:
            self._range = depth_range(values["depth"])
        near, far = self._range or (0.0, 1.0)
        self._writer.add(torch.cat([picture(output, value, near, far) for output, value in values.items()], dim=1))


@contextmanager
def _video(options: RenderOptions, views: Views) -> Iterator[_SideBySide]:
    if len({tuple(size) for size in views.cameras.sizes.tolist()}) > 1:
        raise UserError("the views have different sizes, which a video cannot have; give a folder as --output")
    with atomic_path(options.output) as temporary, VideoWriter(temporary, views.fps) as writer:
        yield _SideBySide(writer)
