# SPDX-License-Identifier: Apache-2.0
"""From a path to a Scene: recognise the format, look at the data set, decode its images in parallel.

Adding a format takes one module with `detect(path) -> bool` and `read(path, options) -> Manifest`, and one line in
FORMATS.
"""

import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from neurfield import registry
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.data import (
    colmap,
    depth_files,
    idr,
    llff,
    metashape,
    nerf_synthetic,
    nerfies,
    nsvf,
    opensfm,
    polycam,
    record3d,
    scene_file,
    signals,
    tiny_nerf,
    transforms,
    unknown,
)
from neurfield.data.colmap_points import read_seen
from neurfield.data.image_files import in_threads, n_threads, read_mask
from neurfield.data.options import LoadOptions, ReadOptions
from neurfield.data.origin import near_origin
from neurfield.data.paths import data_name
from neurfield.data.scene import Scene, uses_pixels
from neurfield.data.seen_points import SeenPoints
from neurfield.data.views import Manifest, View
from neurfield.errors import UserError
from neurfield.files import check_readable
from neurfield.progress import Progress, silent

MAX_MASK_MEGAPIXELS = 64.0


class Format(Protocol):
    """A module that reads one kind of data set."""

    def detect(self, path: Path) -> bool: ...

    def read(self, path: Path, options: LoadOptions) -> Manifest: ...


# In the order in which they are tried.
FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "nerf_synthetic": nerf_synthetic,
        "transforms": transforms,
        "tiny_nerf": tiny_nerf,
        "colmap": colmap,
        "idr": idr,
        "nerfies": nerfies,
        "polycam": polycam,
        "record3d": record3d,
        "metashape": metashape,
        "opensfm": opensfm,
        "llff": llff,
        "nsvf": nsvf,
    }
)


def load_scene(path: str | Path, options: ReadOptions | None = None, **changes: Any) -> Scene:
    """Reads a data set into memory.

    Args:
        path: a data folder, a `transforms.json`, an `.npz` archive, or a scene file (`.yaml`).
        options: ReadOptions, over what a scene file says; or LoadOptions, which leave little open to it.
        **changes: single options of LoadOptions by name, which win: `load_scene("data/lego", splits=("train",))`. None
            is no wish.

    Returns:
        The scene with the views of `options.splits`; images as stored (uint8 sRGB, or linear float32), all RGB or, if
        any image has transparent pixels, all RGBA.

    Raises:
        UserError: anything about the data that cannot be used, in one line that names the file.
    """
    return decode(read_manifest(path, options, **changes))


def read_manifest(path: str | Path, options: ReadOptions | None = None, **changes: Any) -> Manifest:
    """Looks at a data set without decoding images; arguments and errors as `load_scene`."""
    source, name, load = locate(path, options or ReadOptions())
    load = replace(load, **{name: value for name, value in changes.items() if value is not None})
    manifest = near_origin(_format(source, load).read(source, load))
    return replace(manifest, name=name, source=str(source.absolute()), options=load)


def locate(path: str | Path, options: ReadOptions) -> tuple[Path, str, LoadOptions]:
    """Where a data set lies, what it is called and how it is read; a scene file says all three.

    Args:
        options: the caller's wishes, which win.

    Raises:
        UserError: nothing there, what may not be read, or a scene file that cannot be used.
    """
    path = Path(path)
    check_readable(path)
    if not os.path.exists(path):  # false, not an error, for names that no file can have
        raise UserError(f"{path}: no such file or folder")
    if not scene_file.is_scene_file(path):
        return path, data_name(path), options.over(LoadOptions())
    source, name, said = scene_file.read(path)
    return source, name, options.over(said.over(LoadOptions()))


def _format(path: Path, options: LoadOptions) -> Format:
    if options.format is not None:
        return registry.lookup(FORMATS, options.format, "data format")
    found = detected(path)
    if found is not None:
        return found
    if kind := signals.kind_of(path):
        way = "neurfield train, or train_signal from Python, makes a field of it"
        raise UserError(f"{path}: a single file ({kind}), no scene; {way}")
    advice = unknown.advice(path, lambda inner: detected(inner) is not None)
    if advice is not None:
        raise UserError(f"{path}: not a data set of a known format; {advice}")
    raise UserError(
        f"{path}: not a data set of a known format; expected transforms.json, transforms_train.json, "
        f"COLMAP's sparse/0 or what else docs/data.md lists (formats: {', '.join(FORMATS)}), or a picture, "
        "mesh, video or volume (docs/signals.md)"
    )


def detected(path: Path) -> Format | None:
    """The reader of the data set that a path looks like."""
    return next((candidate for candidate in FORMATS.values() if candidate.detect(path)), None)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that a data set takes in memory, known from headers.

    Attributes:
        n_views, n_pixels: after downscaling.
        images: bytes of all images as the Scene holds them.
        masks, depths: bytes of all masks and depth maps.
        decoding: extra bytes while images, or maps of their size, are decoded, at the worst.
    """

    n_views: int
    n_pixels: int
    images: int
    masks: int
    depths: int
    decoding: int

    @property
    def peak(self) -> int:
        """At most so many bytes at any time of loading."""
        return self.images + self.masks + self.depths + self.decoding


def plan_memory(manifest: Manifest) -> MemoryPlan:
    """What loading the data set will take, without decoding it."""
    pixels = [view.intrinsics.width * view.intrinsics.height for view in manifest.views]
    pixel_bytes = max(view.header.pixel_bytes for view in manifest.views)  # one transparent image makes all RGBA
    masks = [n if view.mask or view.ignore_mask else 0 for n, view in zip(pixels, manifest.views, strict=True)]
    known = [n if view.depth else 0 for n, view in zip(pixels, manifest.views, strict=True)]
    # Each thread holds a decoded image and its copy; shrinking works in float32.
    stored = [
        v.header.width * v.header.height * v.header.pixel_bytes * (8 if v.shrink > 1 else 2) for v in manifest.views
    ]
    return MemoryPlan(
        len(pixels),
        sum(pixels),
        pixel_bytes * sum(pixels),
        sum(masks),
        4 * sum(known),
        max(sum(sorted(stored)[-n_threads() :]), depth_files.READING * sum(sorted(known)[-n_threads() :])),
    )


def decode(manifest: Manifest, progress: Progress = silent) -> Scene:
    """Decodes the images and masks of a data set, on all cores.

    Args:
        progress: called with the finished part of the images.

    Raises:
        UserError: a broken image, a mask of another size than its image, masks that leave no pixel of a split, linear
            images among others.
    """
    views = manifest.views
    if len({view.header.is_float for view in views}) > 1:
        raise UserError(f"{manifest.name}: linear (EXR, float TIFF) and sRGB images cannot be mixed in one data set")
    images = _images(views, progress)
    has_masks = any(view.mask or view.ignore_mask for view in views)
    masks = in_threads(_mask, views) if has_masks else None
    has_depths = any(view.depth for view in views)
    depths = in_threads(lambda view: _depth(view, manifest.options.max_megapixels), views) if has_depths else None
    for split, indices in manifest.splits.items():
        if masks and indices and not any(uses_pixels(masks[i]) for i in indices):
            raise UserError(f"{manifest.name}: the masks leave no pixel of the {split} views; are they inverted?")
    transform = manifest.applied_transform
    points, notes = _points(manifest)
    return Scene(
        manifest.name,
        cameras(views),
        images,
        {split: list(indices) for split, indices in manifest.splits.items()},
        manifest.normalization,
        masks,
        [str(view.path or view.name) for view in views],
        [*manifest.notes, *notes],
        None if transform is None else torch.from_numpy(transform),
        manifest.source,
        manifest.options,
        depths,
        points,
    )


def _points(manifest: Manifest) -> tuple[SeenPoints | None, list[str]]:
    """The points that its views see, which only training asks for; a broken cloud is told in a note, as all else is
    there without it.
    """
    if manifest.sparse_model is None or not manifest.splits.get("train"):
        return None, []
    views = {view.name.removeprefix("images/"): i for i, view in enumerate(manifest.views)}
    try:
        return read_seen(manifest.sparse_model, views, manifest.normalization.origin), []
    except UserError as error:
        return None, [f"the points are not used: {error}"]


def cameras(views: list[View]) -> Cameras:
    """The views' cameras as one batch, in the world of the input."""
    lenses = [view.intrinsics for view in views]
    return Cameras(
        torch.from_numpy(np.stack([view.c2w for view in views])).float(),
        torch.tensor([[lens.fl_x, lens.fl_y, lens.cx, lens.cy] for lens in lenses], dtype=torch.float32),
        torch.tensor([[lens.width, lens.height] for lens in lenses], dtype=torch.int64),
        torch.tensor([CAMERA_MODELS.index(lens.model) for lens in lenses], dtype=torch.int64),
        torch.tensor([lens.distortion for lens in lenses], dtype=torch.float32),
        torch.tensor([view.time for view in views], dtype=torch.float32),
    )


def _images(views: list[View], progress: Progress) -> list[Tensor]:
    """All images, RGBA if any has transparent pixels, else RGB: alpha that is full everywhere says nothing.

    They are parts of one block of memory, in their order, from which training draws without another copy
    (sampling.PixelSampler).
    """
    sizes = [(view.intrinsics.height, view.intrinsics.width) for view in views]
    ends = np.cumsum([height * width for height, width in sizes])
    channels, is_float = max(view.header.channels for view in views), views[0].header.is_float
    full = 1.0 if is_float else 255
    block = np.empty(ends[-1] * channels, np.float32 if is_float else np.uint8)

    def part(i: int, channels: int) -> np.ndarray:
        height, width = sizes[i]
        return block[channels * (ends[i] - height * width) : channels * ends[i]].reshape(height, width, channels)

    def fill(i: int) -> bool:
        """Whether the image has transparent pixels."""
        pixels, place = views[i].decoded(), part(i, channels)
        pixels = _shrunk(pixels, views[i].shrink) if views[i].shrink > 1 else pixels
        place[..., : pixels.shape[2]] = pixels
        place[..., pixels.shape[2] :] = full
        return channels == 4 and bool((place[..., 3] < full).any())

    transparent = in_threads(fill, range(len(views)), progress)
    if channels == 4 and not any(transparent):
        for i in range(len(views)):
            part(i, 3)[...] = part(i, 4)[..., :3].copy()  # what is written lies before all that is not yet read
        block.resize(ends[-1] * 3, refcheck=False)
        channels = 3
    pixels = torch.from_numpy(block).view(-1, channels)
    return [
        pixels[end - height * width : end].view(height, width, channels)
        for end, (height, width) in zip(ends, sizes, strict=True)
    ]


def _shrunk(pixels: np.ndarray, factor: int) -> np.ndarray:
    """Averages blocks of `factor` x `factor` pixels, colours weighted by alpha; what fills no block is cut off."""
    height, width, channels = pixels.shape[0] // factor, pixels.shape[1] // factor, pixels.shape[2]
    cut = pixels[: height * factor, : width * factor]
    total = np.zeros((height, width, channels), np.float32)
    for y, x in itertools.product(range(factor), repeat=2):  # four times as fast as a sum over two axes of blocks
        part = cut[y::factor, x::factor].astype(np.float32)
        if channels == 4:
            part[..., :3] *= part[..., 3:]
        total += part
    mean = total / factor**2
    if channels == 4:
        mean[..., :3] = total[..., :3] / np.maximum(total[..., 3:], 1e-12)
    return np.rint(mean).astype(np.uint8) if pixels.dtype == np.uint8 else mean


def _depth(view: View, max_megapixels: float) -> Tensor | None:
    """float32 `[height, width]` of the image in memory, world units, 0 = not known."""
    if view.depth is None:
        return None
    size = view.intrinsics.width, view.intrinsics.height
    return torch.from_numpy(depth_files.read(view.depth, *size, view.depth_unit, max_megapixels))


def _mask(view: View) -> Tensor | None:
    """uint8 `[height, width]`, 1 = use, 0 = ignore; a pixel that is averaged from an ignored one is ignored."""
    keep: np.ndarray | None = None
    for path, means_keep in ((view.mask, True), (view.ignore_mask, False)):
        if path is None:
            continue
        part = _pixels_to_keep(view, path, means_keep)
        keep = part if keep is None else keep & part
    return None if keep is None else torch.from_numpy(keep.astype(np.uint8))


def _pixels_to_keep(view: View, path: Path, means_keep: bool) -> np.ndarray:
    """The mask at the size of the image in memory; a larger one is shrunk like the image was."""
    camera = view.intrinsics
    lit = read_mask(path, max(MAX_MASK_MEGAPIXELS, view.header.width * view.header.height / 1e6))
    height, width = lit.shape
    factor = max(round(width / camera.width), 1)
    if (width // factor, height // factor) != (camera.width, camera.height):
        raise UserError(f"{path}: the mask has {width} x {height} pixels, its image {camera.width} x {camera.height}")
    keep = lit if means_keep else ~lit
    blocks = keep[: camera.height * factor, : camera.width * factor]
    return np.asarray(blocks.reshape(camera.height, factor, camera.width, factor).all(axis=(1, 3)))
