# SPDX-License-Identifier: Apache-2.0
"""Figures of a data set's images and cameras, and what looks wrong with them: the content of `neurfield data info`."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurfield.cameras.poses import Array, Focus
from neurfield.data.image_files import in_threads
from neurfield.data.normalize import MIN_CONVERGENCE
from neurfield.data.views import Manifest, View, focus_of, poses

# Images that are decoded for figures of brightness and alpha, evenly over the views.
MAX_SAMPLE = 64
# What counts as odd; each has a line in `oddities`.
MIN_VIEWS = 10
MAX_CENTER_SHIFT = 0.1
MAX_FOCAL_RATIO = 1.05
MAX_STOPS = 1.0
N_NEIGHBOURS = 5
_MAX_DISTANCES = 1 << 20  # in memory at a time


@dataclass(frozen=True)
class ImageFigures:
    """Of one image: mean linear luminance, weighted by alpha, and mean alpha."""

    luminance: float
    coverage: float


@dataclass(frozen=True)
class CameraFigures:
    """Of all cameras, in world units.

    Attributes:
        seen: the point they look at.
        distances: `[n_aimed]` from the point that they look at, of those that are aimed (Focus.aimed).
        baseline: largest distance between two cameras.
        spacing: median distance of a camera to the nearest other.
    """

    seen: Focus
    distances: Array
    baseline: float
    spacing: float


def sample(views: Sequence[View]) -> list[View]:
    """At most MAX_SAMPLE views, evenly over the list."""
    chosen = np.unique(np.linspace(0, len(views) - 1, min(len(views), MAX_SAMPLE)).round().astype(int))
    return [views[i] for i in chosen]


def image_figures(views: Sequence[View]) -> list[ImageFigures]:
    """Decodes the views given; see `sample`."""
    return in_threads(_figures_of_image, views)


def _figures_of_image(view: View) -> ImageFigures:
    pixels = view.decoded()
    small = pixels[::2, ::2].astype(np.float32)  # a quarter of the pixels says as much
    if pixels.dtype == np.uint8:
        small /= 255
        small[:, :, :3] **= 2.2  # close enough to sRGB for a comparison between images
    weight = small[:, :, 3] if small.shape[2] == 4 else np.ones(small.shape[:2], np.float32)
    luminance = (small[:, :, :3] @ np.array([0.2126, 0.7152, 0.0722], np.float32) * weight).sum()
    return ImageFigures(float(luminance / max(weight.sum(), 1e-6)), float(weight.mean(dtype=np.float64)))


def camera_figures(views: Sequence[View]) -> CameraFigures:
    """Of at least one view. Takes n^2 distances, some rows at a time: 3 ms for 300 views."""
    seen, positions = focus_of(views), poses(views)[:, :, 3]
    baseline, nearest = 0.0, np.zeros(len(views))
    n_rows = max(_MAX_DISTANCES // len(views), 1)
    for first in range(0, len(views), n_rows):
        rows = slice(first, first + n_rows)
        apart = np.linalg.norm(positions[rows, None] - positions[None], axis=2)
        baseline = max(baseline, float(apart.max()))
        np.fill_diagonal(apart[:, first:], np.inf)  # each to itself
        nearest[rows] = apart.min(axis=1)
    spacing = float(np.median(nearest)) if len(views) > 1 else 0.0
    return CameraFigures(seen, np.linalg.norm(positions[seen.aimed] - seen.point, axis=1), baseline, spacing)


def oddities(manifest: Manifest, figures: CameraFigures, images: Sequence[ImageFigures]) -> list[str]:
    """What looks wrong, one sentence each; an empty list for healthy data."""
    views = manifest.views
    return [
        *_odd_counts(manifest),
        *_odd_poses(manifest, figures),
        *_odd_lenses(views),
        *_odd_images(sample(views), images),
    ]


def _odd_counts(manifest: Manifest) -> list[str]:
    n_train = len(manifest.splits.get("train", []))
    if n_train < MIN_VIEWS:
        return [f"only {n_train} views to train on: expect a poor reconstruction between them"]
    return []


def _odd_poses(manifest: Manifest, figures: CameraFigures) -> list[str]:
    odd = []
    c2w = poses(manifest.views)
    size = max(float(np.median(figures.distances)), 1e-9)
    if len(c2w) > 1 and figures.baseline < 1e-6 * (size + float(np.abs(c2w[:, :, 3]).max())):
        odd.append("all cameras stand at the same place: nothing tells how far away anything is")
    elif figures.seen.is_anywhere:
        return odd + _twins(manifest, size)
    elif figures.seen.convergence < MIN_CONVERGENCE:
        odd.append("all cameras look almost the same way: depth is poorly determined")
    else:
        away = [manifest.views[i].name for i in figures.seen.away]
        if away:
            odd.append(f"{len(away)} of {len(c2w)} cameras look away from the common centre ({', '.join(away[:3])})")
    odd += _twins(manifest, size)
    unit = manifest.normalization.scale * figures.seen.point + np.array(manifest.normalization.offset)
    if figures.seen.in_front > 0.5 and np.abs(unit - 0.5).max() > 0.5:
        odd.append(f"what the cameras look at is outside of the unit cube ({_point(unit)}): check scale and offset")
    return odd


def _twins(manifest: Manifest, size: float) -> list[str]:
    c2w = poses(manifest.views)
    keys = [tuple(np.round(pose / np.append(np.ones(3), size), 6).ravel()) for pose in c2w]
    same_as: dict[tuple[float, ...], int] = {}
    twins = [(same_as[key], i) for i, key in enumerate(keys) if same_as.setdefault(key, i) != i]
    times = [view.time for view in manifest.views]
    twins = [(a, b) for a, b in twins if times[a] == times[b]]
    if not twins or len(twins) >= len(c2w) - 1:
        return []
    a, b = twins[0]
    return [f"{len(twins)} views repeat a pose ({manifest.views[b].name} is where {manifest.views[a].name} is)"]


def _odd_lenses(views: Sequence[View]) -> list[str]:
    lenses = [view.intrinsics for view in views]
    shift = [max(abs(v.cx / v.width - 0.5), abs(v.cy / v.height - 0.5)) for v in lenses]
    ratio = [1.0 if v.is_panorama else max(v.fl_x / v.fl_y, v.fl_y / v.fl_x) for v in lenses]
    odd = []
    if max(shift) > MAX_CENTER_SHIFT:
        name = views[int(np.argmax(shift))].name
        odd.append(f"the principal point is up to {max(shift):.0%} of the image off its centre ({name})")
    if max(ratio) > MAX_FOCAL_RATIO:
        odd.append(f"fl_x and fl_y differ by up to {max(ratio) - 1:.0%}: pixels that are not square, or a wrong angle")
    return odd


def _odd_images(views: Sequence[View], images: Sequence[ImageFigures]) -> list[str]:
    odd = []
    stops = _stops_from_neighbours(views, images)
    far = np.flatnonzero(np.abs(stops) > MAX_STOPS)
    if len(far):
        worst = far[np.argmax(np.abs(stops[far]))]
        odd.append(
            f"{len(far)} of {len(images)} images are more than {MAX_STOPS:g} stop brighter or darker than their "
            f"neighbours ({views[worst].name}: {stops[worst]:+.1f}): their exposure differs"
        )
    channels = {view.header.channels for view in views}
    if 4 in channels and all(figures.coverage == 1 for figures in images):
        odd.append("the images have an alpha channel, but none of their pixels is transparent")
    if len(channels) > 1:
        odd.append("some images have an alpha channel and some have none")
    blank = [view.name for view, figures in zip(views, images, strict=True) if figures.coverage == 0]
    if blank:
        odd.append(f"{len(blank)} images have no opaque pixel ({', '.join(blank[:3])})")
    return odd


def _stops_from_neighbours(views: Sequence[View], images: Sequence[ImageFigures]) -> Array:
    """Brightness of each image against the median of the nearest views, in factors of two.

    Distance counts in position, in units of the cameras' spread, and in viewing direction: an object that is lit from
    one side looks dark from the other, which is no fault. Panoramas, which look everywhere, are alike in it, and differ
    from other images as those do that look the other way.
    """
    c2w, has_axis = poses(views), focus_of(views).has_axis
    position, direction = c2w[:, :, 3], c2w[:, :, 2] * has_axis[:, None]
    spread = max(float(np.linalg.norm(position - position.mean(axis=0), axis=1).max()), 1e-9)
    apart = np.linalg.norm(position[:, None] - position[None], axis=2) / spread
    turned = np.linalg.norm(direction[:, None] - direction[None], axis=2)
    apart += np.where(has_axis[:, None] == has_axis, turned, 2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, : min(N_NEIGHBOURS, len(views) - 1)]
    levels = np.log2(np.maximum([figures.luminance for figures in images], 1e-6))
    return levels - np.median(levels[nearest], axis=1) if nearest.size else np.zeros(len(views))


def _point(point: Array) -> str:
    return ", ".join(f"{x:.2f}" for x in point)
