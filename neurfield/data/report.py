# SPDX-License-Identifier: Apache-2.0
"""The report of `neurfield data info`: named rows of text about a data set, and warnings."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurfield.checks import rounded
from neurfield.data.lens import Intrinsics
from neurfield.data.load import plan_memory
from neurfield.data.statistics import (
    CameraFigures,
    ImageFigures,
    camera_figures,
    image_figures,
    oddities,
    sample,
)
from neurfield.data.views import Manifest, View
from neurfield.memory import readable


@dataclass(frozen=True)
class Report:
    """Rows of (name, text), and sentences about what the reader noted and what looks wrong."""

    title: str
    rows: list[tuple[str, str]]
    notes: list[str]
    warnings: list[str]

    def text(self) -> str:
        """The report as plain lines."""
        width = max(len(name) for name, _ in self.rows)
        lines = [self.title, *(f"  {name:{width}}  {text}" for name, text in self.rows)]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join(lines + [f"  warning: {warning}" for warning in self.warnings])


def describe(manifest: Manifest) -> Report:
    """Looks at all cameras and at a sample of the images.

    Raises:
        UserError: an image of the sample cannot be decoded.
    """
    views = manifest.views
    cameras = camera_figures(views)
    sampled = sample(views)
    images = image_figures(sampled)
    rows = [
        ("format", manifest.format),
        ("views", ", ".join(f"{len(indices)} {split}" for split, indices in manifest.splits.items())),
        *_image_rows(manifest, sampled, images),
        *_lens_rows(views),
        *_pose_rows(cameras),
        *_time_rows(views),
        *_normalization_rows(manifest),
    ]
    return Report(manifest.name, rows, manifest.notes, oddities(manifest, cameras, images))


def _image_rows(manifest: Manifest, views: Sequence[View], images: Sequence[ImageFigures]) -> list[tuple[str, str]]:
    kinds = Counter((_kind(view), view.intrinsics.width, view.intrinsics.height) for view in manifest.views)
    sizes = [f"{count} {kind} of {width} x {height}" for (kind, width, height), count in kinds.most_common(4)]
    if len(kinds) > 4:
        sizes.append(f"and {len(kinds) - 4} other sizes")
    plan = plan_memory(manifest)
    coverage = float(np.mean([figures.coverage for figures in images]))
    luminances = [figures.luminance for figures in images]
    seen = f" (of {len(views)} images)" if len(views) < len(manifest.views) else ""
    alpha = f"{coverage:.0%} opaque on average" if coverage < 1 else "none, the images are opaque"
    rows = [
        ("images", ", ".join(sizes)),
        (
            "in memory",
            f"{readable(plan.images + plan.masks + plan.depths)}, at most {readable(plan.peak)} while loading",
        ),
        ("transparency", alpha + seen),
        ("brightness", f"{_range(luminances)} of 1, linear{seen}"),
    ]
    masked = sum(view.mask is not None or view.ignore_mask is not None for view in manifest.views)
    rows += [("masks", f"for {masked} of {len(manifest.views)} views")] if masked else []
    units = {view.depth_unit for view in manifest.views if view.depth is not None}
    deep = sum(view.depth is not None for view in manifest.views)
    unit = f", {', '.join(f'{unit:g}' for unit in sorted(units))} world units per unit"
    return [*rows, ("depth maps", f"for {deep} of {len(manifest.views)} views{unit}")] if deep else rows


def _kind(view: View) -> str:
    if view.path is None:
        return "arrays"
    suffix = view.path.suffix.lstrip(".").upper().replace("JPG", "JPEG")
    return f"{suffix} ({'RGBA' if view.header.channels == 4 else 'RGB'})"


def _lens_rows(views: Sequence[View]) -> list[tuple[str, str]]:
    """Panoramas have no lens: they go all around, or what is left of that."""
    models = Counter(view.intrinsics.model for view in views)
    cameras = ("cameras", ", ".join(f"{count} {model}" for model, count in models.items()))
    panoramas = [view.intrinsics for view in views if view.intrinsics.is_panorama]
    lenses = [view.intrinsics for view in views if not view.intrinsics.is_panorama]
    around = [("panoramas", f"field of view {_angles(panoramas)}")] if panoramas else []
    if not lenses:
        return [cameras, *around]
    focal = f"{_range([lens.fl_x for lens in lenses])} x {_range([lens.fl_y for lens in lenses])} pixels"
    center = f"{_range([lens.cx for lens in lenses])}, {_range([lens.cy for lens in lenses])}"
    rows = [
        cameras,
        *around,
        ("focal length", f"{focal}, field of view {_angles(lenses)}"),
        ("principal point", f"{center} pixels"),
    ]
    names = ("k1", "k2", "k3", "k4", "p1", "p2")
    distortion = np.array([lens.distortion for lens in lenses])
    used = [f"{name} {_range(distortion[:, i])}" for i, name in enumerate(names) if distortion[:, i].any()]
    return [*rows, ("distortion", ", ".join(used))] if used else rows


def _angles(lenses: Sequence[Intrinsics]) -> str:
    angles = np.array([lens.field_of_view for lens in lenses])
    return f"{_range(angles[:, 0])} x {_range(angles[:, 1])} degrees"


def _pose_rows(found: CameraFigures) -> list[tuple[str, str]]:
    size = float(found.distances.max())
    point = ", ".join(rounded(found.seen.point, 3, size))
    most, least = rounded((found.baseline, found.spacing), 3, size)
    rows = [
        ("look at", f"({point}), {found.seen.in_front:.0%} of the cameras face it"),
        ("distance to it", _range(found.distances)),
        ("camera spacing", f"{most} at most, {least} to the nearest other (median)"),
    ]
    return rows[2:] if found.seen.is_anywhere else rows


def _time_rows(views: Sequence[View]) -> list[tuple[str, str]]:
    times = {view.time for view in views}
    return [("times", f"{len(times)} different, {_range(list(times))}")] if times != {0.0} else []


def _normalization_rows(manifest: Manifest) -> list[tuple[str, str]]:
    norm = manifest.normalization
    low, high = (rounded([(c - o) / norm.scale for o in norm.offset], 3, 1 / norm.scale) for c in (0.0, 1.0))
    box = " x ".join(f"[{a}, {b}]" for a, b in zip(low, high, strict=True))
    offset = ", ".join(rounded(norm.offset, 4, 1))
    return [
        ("unit space", f"{norm.scale:.5g} * x + ({offset}), chosen by: {norm.source}"),
        ("unit cube", f"{box} in world units"),
        ("field box", f"{norm.aabb_scale} unit cube{'s' if norm.aabb_scale > 1 else ''} wide"),
    ]


def _range(values: Sequence[float] | np.ndarray) -> str:
    """One number if all are the same at four digits, else the lowest, the median and the highest."""
    size = float(np.abs(values).max())
    low, middle, high = rounded((np.min(values), np.median(values), np.max(values)), 4, size)
    return low if low == high else f"{low} ... {middle} ... {high}"
