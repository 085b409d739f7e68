# SPDX-License-Identifier: Apache-2.0
"""A picture of the cameras of a data set along -z and +y: view frustums and balls of panoramas, unit cube, field box,
axes.

Where up is +z these are from above and from the side.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from neurfield.cameras.poses import Array, up
from neurfield.data.views import Manifest, View, focus_of, poses

WIDTH, HEIGHT = 1640, 860  # of the picture; drawn OVERSAMPLED times as large and shrunk, for smooth lines
OVERSAMPLED = 2
MARGIN, TOP, BOTTOM = 70, 52, 82

INK, GREY, GRID, PAPER = (40, 40, 40), (120, 120, 120), (232, 232, 232), (255, 255, 255)
CUBE, BOX = (150, 90, 10), (200, 160, 90)
SPLIT_COLORS = {"train": (31, 111, 180), "val": (45, 140, 60), "test": (208, 62, 38)}

# Corners of a box as bits x y z, and the pairs of them that share an edge.
CORNERS = np.array([[(i >> axis) & 1 for axis in range(3)] for i in range(8)], dtype=np.float64)
EDGES = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i >> axis & 1]


@dataclass(frozen=True)
class Panel:
    """One orthographic view of the world.

    Attributes:
        title: what is seen.
        axes: world axes that point right and up.
        left: of the panel, in pixels of the picture.
        side: width and height in pixels.
        low: `[3]` world point at the lower left (the third coordinate is not used).
        extent: world units along a side.
    """

    title: str
    axes: tuple[int, int]
    left: float
    side: float
    low: Array
    extent: float

    def at(self, points: Array) -> list[tuple[float, float]]:
        """Pixels of world points `[n, 3]` in the oversampled picture."""
        scaled = (points[:, self.axes] - self.low[list(self.axes)]) / self.extent * self.side
        x, y = self.left + scaled[:, 0], TOP + self.side - scaled[:, 1]
        return [(float(a) * OVERSAMPLED, float(b) * OVERSAMPLED) for a, b in zip(x, y, strict=True)]


def draw(manifest: Manifest) -> Image.Image:
    """Draws all views of the data set; RGB, WIDTH x HEIGHT."""
    c2w, seen = poses(manifest.views), focus_of(manifest.views)
    cube, box = _boxes(manifest)
    low, extent = _bounds(c2w, cube)
    length = 0.06 * extent
    side = min((WIDTH - 3 * MARGIN) / 2, HEIGHT - TOP - BOTTOM)
    above, beside = ("from above, ", "from the side, ") if up(c2w)[2] == 1 else ("", "")
    panels = [
        Panel(f"{above}looking along -z", (0, 1), MARGIN, side, low, extent),
        Panel(f"{beside}looking along +y", (0, 2), WIDTH - MARGIN - side, side, low, extent),
    ]
    image = Image.new("RGB", (WIDTH * OVERSAMPLED, HEIGHT * OVERSAMPLED), PAPER)
    canvas = ImageDraw.Draw(image)
    for panel in panels:
        clip = Image.new("RGB", image.size, PAPER)
        inner = ImageDraw.Draw(clip)
        _grid(inner, panel)
        _wire_box(inner, panel, box, BOX, 2)
        _wire_box(inner, panel, cube, CUBE, 3)
        for split, indices in reversed(manifest.splits.items()):  # training views on top
            _views(inner, panel, [manifest.views[i] for i in indices], length, SPLIT_COLORS[split])
        if not seen.is_anywhere:
            _cross(inner, panel.at(seen.point[None])[0])
        left, top, right, bottom = (round(v * OVERSAMPLED) for v in (panel.left, TOP, panel.left + side, TOP + side))
        frame = (left, top, right, bottom)
        image.paste(clip.crop(frame), (left, top))
        canvas.rectangle(frame, outline=GREY, width=2)
        _labels(canvas, panel)
    _legend(canvas, manifest, TOP + side + 52)
    return image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def _boxes(manifest: Manifest) -> tuple[Array, Array]:
    """Corners `[8, 3]` of the unit cube and of the field's box, in the world."""
    norm = manifest.normalization
    unit = CORNERS
    field = 0.5 + (CORNERS - 0.5) * norm.aabb_scale
    cube, box = ((corners - np.array(norm.offset)) / norm.scale for corners in (unit, field))
    return cube, box


def _bounds(c2w: Array, cube: Array) -> tuple[Array, float]:
    """Lower corner and side of the cube that is shown: cameras and unit cube, with room for the frustums."""
    points = np.concatenate([c2w[:, :, 3], cube])
    low, high = points.min(axis=0), points.max(axis=0)
    extent = float((high - low).max()) * 1.2
    return (low + high) / 2 - extent / 2, extent


def _views(
    canvas: ImageDraw.ImageDraw, panel: Panel, views: Sequence[View], length: float, color: tuple[int, int, int]
) -> None:
    for view in views:
        if view.intrinsics.is_panorama:
            _ball(canvas, panel, view.c2w, length, color)
            continue
        x, y = view.intrinsics.tan_half_fov
        signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        local = np.concatenate([signs * [x, y], -np.ones((4, 1))], axis=1) * length / max(1.0, x, y)
        corners = local @ view.c2w[:, :3].T + view.c2w[:, 3]
        apex, *rim = panel.at(np.concatenate([view.c2w[None, :, 3], corners]))
        for corner, following in zip(rim, rim[1:] + rim[:1], strict=True):
            canvas.line([apex, corner, following], fill=color, width=3)
        canvas.ellipse([apex[0] - 5, apex[1] - 5, apex[0] + 5, apex[1] + 5], fill=color)


def _ball(canvas: ImageDraw.ImageDraw, panel: Panel, c2w: Array, length: float, color: tuple[int, int, int]) -> None:
    """A panorama looks everywhere: a circle, with a line to the middle of its picture."""
    ahead = c2w[:, 3] - length / 2 * c2w[:, 2]
    (x, y), end = panel.at(np.stack([c2w[:, 3], ahead]))
    radius = length / 2 / panel.extent * panel.side * OVERSAMPLED
    canvas.ellipse([x - radius, y - radius, x + radius, y + radius], outline=color, width=3)
    canvas.line([(x, y), end], fill=color, width=3)
    canvas.ellipse([x - 5, y - 5, x + 5, y + 5], fill=color)


def _wire_box(
    canvas: ImageDraw.ImageDraw, panel: Panel, corners: Array, color: tuple[int, int, int], width: int
) -> None:
    pixels = panel.at(corners)
    for a, b in EDGES:
        canvas.line([pixels[a], pixels[b]], fill=color, width=width)


def _cross(canvas: ImageDraw.ImageDraw, center: tuple[float, float]) -> None:
    x, y = center
    for dx, dy in ((12, 12), (12, -12)):
        canvas.line([(x - dx, y - dy), (x + dx, y + dy)], fill=INK, width=4)


def _ticks(low: float, extent: float) -> Iterable[float]:
    """Four to ten round numbers in an interval."""
    step = 10 ** np.floor(np.log10(extent / 2))
    step *= next(factor for factor in (0.2, 0.5, 1, 2, 5) if extent / (step * factor) <= 10)
    return np.arange(np.ceil(low / step), np.floor((low + extent) / step) + 1) * step + 0.0  # no -0


def _grid(canvas: ImageDraw.ImageDraw, panel: Panel) -> None:
    for side, axis in enumerate(panel.axes):
        for tick in _ticks(panel.low[axis], panel.extent):
            ends = np.repeat(panel.low[None], 2, axis=0)
            ends[:, axis] = tick
            ends[1, panel.axes[1 - side]] += panel.extent
            canvas.line(panel.at(ends), fill=GREY if abs(tick) < 1e-9 * panel.extent else GRID, width=2)


def _labels(canvas: ImageDraw.ImageDraw, panel: Panel) -> None:
    right, up = panel.axes
    for axis, anchor, shift in ((right, "mt", (0, 8)), (up, "rm", (-8, 0))):
        for tick in _ticks(panel.low[axis], panel.extent):
            point = panel.low.copy()
            point[axis] = tick
            ((x, y),) = panel.at(point[None])
            _text(canvas, x / OVERSAMPLED + shift[0], y / OVERSAMPLED + shift[1], f"{tick:.6g}", 14, GREY, anchor)
    names = "xyz"
    _text(canvas, panel.left + panel.side + 12, TOP + panel.side, names[right], 20, INK, "lm")
    _text(canvas, panel.left - 12, TOP - 10, names[up], 20, INK, "rb")
    _text(canvas, panel.left, TOP - 10, panel.title, 20, INK, "lb")


def _legend(canvas: ImageDraw.ImageDraw, manifest: Manifest, y: float) -> None:
    norm = manifest.normalization
    entries = [
        (SPLIT_COLORS[split], f"{len(indices)} {split}") for split, indices in manifest.splits.items() if indices
    ]
    entries.append((CUBE, f"unit cube ({1 / norm.scale:.3g} wide)"))
    if norm.aabb_scale > 1:
        entries.append((BOX, f"field box ({norm.aabb_scale / norm.scale:.3g} wide)"))
    if not focus_of(manifest.views).is_anywhere:
        entries.append((INK, "nearest point to all view axes"))
    x: float = MARGIN
    _text(canvas, x, y, manifest.name, 20, INK, "lm")
    x += canvas.textlength(manifest.name, font=_font(20)) / OVERSAMPLED + 40
    for color, text in entries:
        if color == INK:
            _cross(canvas, ((x + 8) * OVERSAMPLED, y * OVERSAMPLED))
        else:
            canvas.rectangle([v * OVERSAMPLED for v in (x, y - 8, x + 16, y + 8)], fill=color)
        _text(canvas, x + 24, y, text, 18, INK, "lm")
        x += 24 + canvas.textlength(text, font=_font(18)) / OVERSAMPLED + 34


def _text(
    canvas: ImageDraw.ImageDraw, x: float, y: float, text: str, size: int, color: tuple[int, int, int], anchor: str
) -> None:
    canvas.text((x * OVERSAMPLED, y * OVERSAMPLED), text, fill=color, font=_font(size), anchor=anchor)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size * OVERSAMPLED)
