# SPDX-License-Identifier: Apache-2.0
"""What a format reader gives: posed images that are known by their headers, not decoded yet.

Readers make `Frame`s (names, poses, lenses). `inspect` finds the files, reads their headers in parallel, settles size,
EXIF orientation and downscaling against the camera, and returns `View`s; missing images are counted, duplicates
dropped.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from neurfield.cameras.poses import Array, Focus, focus
from neurfield.checks import few
from neurfield.data.image_files import ImageHeader, in_threads, read_header, read_pixels
from neurfield.data.lens import Intrinsics, Lens
from neurfield.data.options import LoadOptions
from neurfield.data.paths import find_image, is_file
from neurfield.data.scene import Normalization
from neurfield.errors import UserError
from neurfield.registry import nearest

MILLIMETRE = 1e-3  # the unit of depth where nothing is said: that of phones and of nerfstudio


@dataclass(frozen=True)
class Frame:
    """One entry of a data file.

    Attributes:
        name: of the image, as the file spells it.
        where: file and frame, for messages.
        c2w: `[3, 4]` float64, rigid, OpenGL axes.
        lens: may need the image's size.
        time: 0 ... 1.
        mask: name of a mask file, black = ignore, or None.
        depth: name of a depth map, or None; `depth_unit` are world units per unit of its numbers.
    """

    name: str
    where: str
    c2w: Array
    lens: Lens
    time: float = 0.0
    mask: str | None = None
    depth: str | None = None
    depth_unit: float = MILLIMETRE


@dataclass(frozen=True)
class View:
    """One posed image whose header is known.

    Attributes:
        name, where, c2w, time: as in Frame.
        intrinsics: of the image as it will be in memory.
        path: file of the image; None if `pixels` are there already (archives).
        header: of the file.
        pixels: `[height, width, 3 or 4]` uint8 in memory, or None.
        upright: apply the EXIF orientation.
        shrink: average over so many pixels squared after decoding.
        mask: file where black = ignore (nerfstudio), or None.
        ignore_mask: file where white = ignore (instant-ngp's `dynamic_mask_NAME.png` beside the image), or None.
        depth: file of a depth map, or None; `depth_unit` are world units per unit of its numbers.
    """

    name: str
    where: str
    c2w: Array
    intrinsics: Intrinsics
    header: ImageHeader
    time: float = 0.0
    path: Path | None = None
    pixels: np.ndarray | None = None
    upright: bool = True
    shrink: int = 1
    mask: Path | None = None
    ignore_mask: Path | None = None
    depth: Path | None = None
    depth_unit: float = MILLIMETRE

    def decoded(self) -> np.ndarray:
        """`[height, width, 3 or 4]` as stored, not shrunk yet; raises UserError like image_files.read_pixels."""
        pixels = self.pixels if self.path is None else read_pixels(self.path, self.header, self.upright)
        if pixels is None:
            raise ValueError(f"view {self.name} has neither a file nor pixels")
        return pixels


@dataclass(frozen=True)
class Manifest:
    """A data set that was looked at but not decoded; `neurfield.data.load.decode` makes the Scene.

    Attributes:
        name: of the data folder.
        format: key of `FORMATS`.
        views: of the splits asked for.
        splits: indices into `views`.
        normalization: world to unit space.
        notes: for the user.
        applied_transform: `[3, 4]` from the frame of the capture to the file's world (nerfstudio), or None.
        sparse_model: folder of COLMAP's model with a cloud of points, see colmap_points.py, or None.
        source, options: where it lies and how it was read; reading it so again gives the same manifest.
    """

    name: str
    format: str
    views: list[View]
    splits: dict[str, list[int]]
    normalization: Normalization
    notes: list[str] = field(default_factory=list)
    applied_transform: Array | None = None
    sparse_model: Path | None = None
    source: str = ""
    options: LoadOptions = field(default_factory=LoadOptions)

    @property
    def times_differ(self) -> bool:
        """Whether the training views are of different times."""
        return len({self.views[i].time for i in self.splits.get("train", ())}) > 1

    def only(self, splits: Sequence[str]) -> "Manifest":
        """The same data set without the views of other splits.

        Raises:
            UserError: no view is left.
        """
        kept = sorted({i for split in splits for i in self.splits.get(split, ())})
        if not kept:
            counts = ", ".join(f"{len(views)} {split}" for split, views in self.splits.items())
            raise UserError(f"{self.name}: no views in {' or '.join(splits)} (the data set has {counts})")
        place = {old: new for new, old in enumerate(kept)}
        renumbered = {split: [place[i] for i in self.splits.get(split, ())] for split in splits}
        return replace(self, views=[self.views[i] for i in kept], splits=renumbered)


def poses(views: Sequence[View]) -> Array:
    """`[n_views, 3, 4]`."""
    return np.stack([view.c2w for view in views])


def focus_of(views: Sequence[View]) -> Focus:
    """Where at least one view looks."""
    return focus(poses(views), np.array([view.intrinsics.is_panorama for view in views]))


def tan_half_fov(views: Sequence[View]) -> Array:
    """`[n_views, 2]` half width and height of the pictures at distance one, infinite for panoramas."""
    return np.array([view.intrinsics.tan_half_fov for view in views])


def is_cut_out(view: View) -> bool:
    """Whether an image has transparent pixels; decodes it only if it has an alpha channel at all."""
    header, path = view.header, view.path
    if header.channels < 4 or path is None:
        return False
    (image,) = in_threads(lambda path: read_pixels(path, header), [path])
    return bool((image[:, :, 3] < (1 if header.is_float else 255)).any())


def inspect(frames: Sequence[Frame], root: Path, options: LoadOptions, source: str) -> tuple[list[View], list[str]]:
    """Views of the frames whose images exist, in order, and notes about the others.

    Raises:
        UserError: no frames, no images at all, a path outside of `root`, or an image that is broken, too large or not
            of the size that its camera has.
    """
    if not frames:
        raise UserError(f"{source}: no frames, expected at least one view")
    paths = [_image_path(frame, root, options) for frame in frames]
    missing = [frame.name for frame, path in zip(frames, paths, strict=True) if path is None]
    if len(missing) == len(frames):
        first_path = root / missing[0].replace("\\", "/")
        raise UserError(
            f"{source}: none of the {len(frames)} images exist; the first was looked for at {first_path}"
            + _beside(first_path)
        )
    notes = [f"{source}: {len(missing)} of {len(frames)} images are missing ({few(missing)})"] if missing else []
    first: dict[Path, Frame] = {}
    repeated = []
    for frame, path in zip(frames, paths, strict=True):
        if path is not None and first.setdefault(path, frame) is not frame:
            repeated.append(frame.name)
    if repeated:
        notes.append(
            f"{source}: {len(repeated)} images are listed more than once, the first entry counts ({few(repeated)})"
        )
    headers = in_threads(lambda path: read_header(path, options.max_megapixels), first)
    views = [
        _view(frame, path, header, root, options) for (path, frame), header in zip(first.items(), headers, strict=True)
    ]
    lost = [frame.depth for view, frame in zip(views, first.values(), strict=True) if frame.depth and not view.depth]
    if lost:
        notes.append(f"{source}: the depth maps of {len(lost)} images are missing ({few(lost)})")
    return views, notes + _conversions(views, source)


def _image_path(frame: Frame, root: Path, options: LoadOptions) -> Path | None:
    path = find_image(root, frame.name, frame.where, options.allow_outside)
    if path is None or options.downscale_factor == 1 or frame.lens.size is None:
        return path
    smaller = path.parent.with_name(f"{path.parent.name}_{options.downscale_factor}") / path.name
    if is_file(smaller, frame.where):
        return smaller
    top, *inner = path.relative_to(root).parts if path.is_relative_to(root) else path.parts
    smaller = root / f"{top}_{options.downscale_factor}" / Path(*inner)
    return smaller if inner and is_file(smaller, frame.where) else path


def _view(frame: Frame, path: Path, header: ImageHeader, root: Path, options: LoadOptions) -> View:
    upright, shrink, intrinsics = _fit(frame, path, header, options.downscale_factor)
    if shrink > 1:
        intrinsics = intrinsics.shrunk(shrink)
    if min(intrinsics.width, intrinsics.height) < 1:
        raise UserError(f"{path}: the image is smaller than the downscale factor {shrink}")
    mask = None if frame.mask is None else find_image(root, frame.mask, frame.where, options.allow_outside)
    if mask is None and frame.mask is not None:
        raise UserError(f"{frame.where}: no mask at {root / frame.mask}")
    ignore = path.with_name(f"dynamic_mask_{path.stem}.png")
    return View(
        frame.name,
        frame.where,
        frame.c2w,
        intrinsics,
        header,
        frame.time,
        path,
        upright=upright,
        shrink=shrink,
        mask=mask,
        ignore_mask=ignore if is_file(ignore, frame.where) else None,
        depth=None if frame.depth is None else find_image(root, frame.depth, frame.where, options.allow_outside),
        depth_unit=options.depth_unit_scale_factor or frame.depth_unit,
    )


def _fit(frame: Frame, path: Path, header: ImageHeader, factor: int) -> tuple[bool, int, Intrinsics]:
    """Whether to apply EXIF, how much to shrink after decoding, and the camera of the stored image.

    A camera of the size of the stored, not the upright, pixels was calibrated by a tool that ignores EXIF, like
    COLMAP: then the pixels stay as they are stored.
    """
    size = frame.lens.size or header.upright
    camera = frame.lens.at(*size)
    for upright, found in ((True, header.upright), (False, (header.width, header.height))):
        if found == size:
            return upright, factor, camera
        if factor > 1 and all(abs(f * factor - s) < factor for f, s in zip(found, size, strict=True)):
            return upright, 1, camera.resized(*found)
    (width, height), found = size, header.upright
    advice = "correct w and h, or export the images again"
    ratio = round(width / found[0])
    if ratio > 1 and all(abs(f * ratio - s) < ratio for f, s in zip(found, size, strict=True)):
        advice = f"pass --downscale-factor {ratio} to train on the smaller images"
    raise UserError(
        f"{frame.where}: the image {path} has {found[0]} x {found[1]} pixels, its camera {width} x {height}; {advice}"
    )


def _conversions(views: Sequence[View], source: str) -> list[str]:
    """Notes on what decoding will change."""
    notes = []
    wide = sum(view.header.is_16_bit for view in views)
    if wide:
        notes.append(f"{source}: {wide} images have 16 bits per channel and are rounded to 8")
    turned = sum(view.upright and view.header.orientation != 1 for view in views)
    if turned:
        notes.append(f"{source}: {turned} images are turned as their EXIF orientation says")
    kept = sum(not view.upright and view.header.orientation != 1 for view in views)
    if kept:
        notes.append(f"{source}: the EXIF orientation of {kept} images is ignored, their cameras have the stored size")
    return notes


def _beside(path: Path) -> str:
    """What is there instead of a missing file: another spelling, as of .jpg and .JPG, or not even its folder."""
    if not path.parent.is_dir():
        is_windows = any(len(part) == 2 and part.endswith(":") for part in path.parts)
        advice = "; write the paths as they are seen from the folder of the file" if is_windows else ""
        return f", and there is no folder {path.parent}{advice}"
    try:
        names = sorted(child.name for child in path.parent.iterdir())
    except OSError:  # a folder that may not be listed
        return ""
    alike = [name for name in names if Path(name).stem.lower() == path.stem.lower()]
    return f", did you mean {alike[0]!r}?" if alike else nearest(path.name, names)
