# SPDX-License-Identifier: Apache-2.0
"""`neurfield render`: views of a trained field as a folder of pictures or as a video, one view as a picture."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.checks import words
from neurfield.errors import UserError
from neurfield.files import atomic_folder, atomic_path, refuse_existing
from neurfield.progress import TextProgress, silent
from neurfield.registry import lookup
from neurfield.rendering import video
from neurfield.rendering.outputs import DEPTH_KINDS, depth_kind_of, depth_map, depth_range, picture
from neurfield.rendering.renderer import OUTPUTS
from neurfield.rendering.video import DEFAULT_FPS, VideoWriter, check_fps
from neurfield.rendering.writers import DEPTH_WRITERS, FRAMES_FILE, FolderWriter, import_openexr

if TYPE_CHECKING:
    from neurfield.run import Run


def is_video(path: Path) -> bool:
    """By its suffix: .mp4, .mov or .mkv."""
    return path.suffix.lower() in video.SUFFIXES


def is_picture(path: Path) -> bool:
    """By its suffix: .png."""
    return path.suffix.lower() == ".png"


def export_views(
    run: "Run",
    path: str | Path,
    cameras: Cameras,
    outputs: Sequence[str] = ("rgb",),
    names: Sequence[str] | None = None,
    fps: float = DEFAULT_FPS,
    depth_format: str = "npy",
    depth_kind: str = "z",
    overwrite: bool = False,
    progress: TextProgress = silent,
    appearance: int | None = None,
) -> Path:
    """Renders views into a folder (see neurfield.rendering.writers) or, where `path` is that of a video, or of a
    picture of one view, side by side.

    Args:
        run: trained.
        path: folder, or video, or of one view a .png; appears complete or not at all.
        cameras: the views, world frame of the input, each of its time.
        outputs: any of neurfield.rendering.renderer.OUTPUTS.
        names: of the pictures, one for each view, without suffix; None: numbers.
        fps: pictures per second of a video.
        depth_format: npy or exr (float32 world units) or png (16-bit millimetres).
        depth_kind: "z" = along the optical axis, "ray" = distance from the camera, which is taken of all views where
            there are panoramas among them.
        overwrite: replace a video, or a folder that this function has made.
        progress: called with the fraction done and a text.
        appearance: see Renderer.render.

    Returns:
        `path`.

    Raises:
        UserError: see check_views_export; no views, views of different sizes for a video, names that are not one for
            each view or lead elsewhere.
        MachineError: the disk refuses.
    """
    path = Path(path)
    outputs = words(outputs)
    check_views_export(path, outputs, fps, depth_format, depth_kind, overwrite)
    names = [f"{i:05d}" for i in range(len(cameras))] if names is None else names
    _check_names(names, len(cameras))
    depth_kind = depth_kind_of(cameras, depth_kind)
    with _writer(path, cameras, outputs, fps, depth_format, depth_kind, run.views.normalization.world) as writer:
        for i, name in enumerate(names):
            camera = cameras[i]
            writer.add(name, _render(run, camera, outputs, depth_kind, appearance), camera)
            progress((i + 1) / len(names), f"{i + 1}/{len(names)} views")
    return path


def _check_names(names: Sequence[str], n: int) -> None:
    """Raises UserError unless each of `n` views has a name of its own that is one of a file."""
    if n == 0:
        raise UserError("there are no views to be rendered")
    if len(names) != n or len(set(names)) < n:
        raise UserError(
            f"expected {n} different names for {n} views, got {len(names)}, {len(set(names))} of them different"
        )
    for name in names:
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise UserError(f"{name!r} cannot be the name of a picture; expected a single name, no path")


# what nobody calls a folder, and no video that can be written
_NO_FOLDERS = (".jpg", ".jpeg", ".webp", ".exr", ".hdr", ".tif", ".tiff", ".bmp", ".gif", ".webm", ".avi")


def check_views_export(
    path: Path, outputs: Sequence[str], fps: float, depth_format: str, depth_kind: str, overwrite: bool
) -> None:
    """Raises UserError for what can be refused before a run is loaded: unknown names, numbers, a path in use."""
    for output in outputs:
        lookup(OUTPUTS, output, "output")
    if not outputs or len(set(outputs)) < len(outputs):
        raise UserError(f"--outputs needs different names of {', '.join(OUTPUTS)}")
    check_fps(fps)
    lookup(DEPTH_WRITERS, depth_format, "depth format")
    lookup(DEPTH_KINDS, depth_kind, "kind of depth")
    if depth_format == "exr" and "depth" in outputs:
        import_openexr()
    if path.suffix.lower() in _NO_FOLDERS:
        raise UserError(
            f"{path}: views of a scene go into a folder, or into a video: a name in .mp4, .mov or .mkv; one into a .png"
        )
    refuse_existing(path, overwrite, None if is_video(path) or is_picture(path) else FRAMES_FILE)


def _render(
    run: "Run", camera: Cameras, outputs: Sequence[str], depth_kind: str, appearance: int | None
) -> dict[str, Tensor]:
    needed = {*outputs, "accumulation"} if "depth" in outputs else set(outputs)
    result = run.render(camera, sorted(needed), appearance=appearance)
    values = {output: result[output] for output in outputs}
    return values | ({"depth": depth_map(result, camera, depth_kind)} if "depth" in values else {})


def _writer(
    path: Path, cameras: Cameras, outputs: Sequence[str], fps: float, depth_format: str, depth_kind: str, world: str
) -> AbstractContextManager["FolderWriter | _SideBySide"]:
    if is_video(path):
        return _video(path, cameras, fps)
    if is_picture(path):
        return _picture(path, len(cameras))
    return _folder(path, outputs, depth_format, depth_kind, world)


@contextmanager
def _folder(
    path: Path, outputs: Sequence[str], depth_format: str, depth_kind: str, world: str
) -> Iterator[FolderWriter]:
    with atomic_folder(path) as folder:
        writer = FolderWriter(folder, outputs, depth_format, depth_kind, world)
        yield writer
        writer.close()


class _SideBySide:
    """Puts the outputs of a view next to each other; the first view decides the colours of depth."""

    def __init__(self, add: Callable[[Tensor], None]) -> None:
        self._add = add
        self._range: tuple[float, float] | None = None

    def add(self, name: str, values: dict[str, Tensor], camera: Cameras) -> None:
        if "depth" in values and self._range is None:
            self._range = depth_range(values["depth"])
        near, far = self._range or (0.0, 1.0)
        self._add(torch.cat([picture(output, value, near, far) for output, value in values.items()], dim=1))


@contextmanager
def _video(path: Path, cameras: Cameras, fps: float) -> Iterator[_SideBySide]:
    if len({tuple(size) for size in cameras.sizes.tolist()}) > 1:
        raise UserError("the views have different sizes, which a video cannot have; give a folder as --output")
    with atomic_path(path) as temporary, VideoWriter(temporary, fps) as writer:
        yield _SideBySide(writer.add)


@contextmanager
def _picture(path: Path, n: int) -> Iterator[_SideBySide]:
    if n != 1:
        raise UserError(f"{path}: a picture is of one view, and there are {n}; give a folder or a video as --output")
    with atomic_path(path) as temporary:
        yield _SideBySide(lambda image: Image.fromarray(image.numpy()).save(temporary))
