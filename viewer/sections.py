# SPDX-License-Identifier: Apache-2.0
"""Grids of values, seen on planes: a picture lies in one, a video in one at a time, a volume is cut by three.

Every ray is met with the planes, and the field is asked where it meets the nearest, so a picture is as fine as the
page's pixels however near the camera is. Beside the field, or against it, stand the values that it was trained on.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.signals.grid import GridInfo, GridSignal
from neurfield.progress import Progress
from neurfield.rendering.color import linear_to_srgb
from neurfield.rendering.outputs import colored, depth_per_length
from neurfield.rendering.renderer import image_rays
from neurfield.viewer.detail import Detail
from neurfield.viewer.look import Look
from neurfield.viewer.stage import Controls, Painted

Values = Callable[
    [Tensor], Tensor
]  # positions [n, n_axes] in 0 ... 1, last axis of the array first, to [n, n_channels]
MODES = {
    "colour": "what the field gives",
    "error": "difference from the data, at their own samples; white from a tenth of the range on",
}
_ERROR_SHOWN = 0.1
_TILE_RAYS = 1 << 16
_BACKGROUND = (0.16, 0.17, 0.18)  # neither end of a picture's range
_EDGE_COLOR, _EDGE = (0.96, 0.51, 0.13), 0.002  # of a volume's sections, as part of its side


@dataclass(frozen=True)
class SectionStage:
    """A field of grid values, or such values themselves, on planes of a box.

    Attributes:
        values: the field. Its positions are the coordinates of the box, as many as it takes.
        info: of the data.
        world_from_box: `[3, 4]`, where the unit cube of those coordinates lies in the world.
        data: the same of the data themselves; None: there are none, or `values` is that.
        version: grows when the field changes.
    """

    values: Values
    info: GridInfo
    world_from_box: Tensor
    data: Values | None = None
    version: Callable[[], int] = lambda: 0
    _detail: Detail[Values] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_detail", Detail(self.values, self.version))

    @property
    def modes(self) -> Mapping[str, str]:
        return MODES if self.data is not None else {"colour": MODES["colour"]}

    @property
    def controls(self) -> Controls:
        sizes, info = self.info.sizes, self.info
        known = Controls(beside="data" if self.data else "", n_levels=self._detail.n_levels)
        if self._is_cut:
            return replace(known, sections=sizes, values=(info.low, info.high))
        if len(sizes) == 3:
            return replace(known, is_flat=True, n_frames=sizes[0], fps=info.fps or 30.0)
        return replace(known, is_flat=True)

    @property
    def _is_cut(self) -> bool:
        """A volume; a video has pictures in a second."""
        return len(self.info.sizes) == 3 and self.info.fps is None

    @torch.no_grad()
    def paint(self, camera: Cameras, look: Look, step: Progress, is_final: bool) -> Painted:
        width, height = camera.sizes[0].tolist()
        values, rows = self._detail.field(look.level), max(_TILE_RAYS // width, 1)
        left = width if look.split is None or self.data is None else round((1 - look.split) * width)
        images, depths = [], []
        for top in range(0, height, rows):
            origins, directions = image_rays(camera, top, min(top + rows, height))
            x, lengths, is_edge = self._meet(origins, directions, look)
            hit = lengths.isfinite()
            is_data = (torch.arange(len(x)) % width) >= left
            image = torch.tensor(look.background or _BACKGROUND).expand(len(x), 3).clone()
            for kind, rays in ((values, hit & ~is_data), (self.data, hit & is_data)):
                if kind is not None and bool(rays.any()):
                    image[rays] = self._colors(kind, x[rays], look, image[rays])
            image[is_edge] = torch.tensor(_EDGE_COLOR)
            images.append(image)
            depths.append(torch.where(hit, lengths * depth_per_length(camera, directions), 0.0))
            step(min(top + rows, height) / height)
        image = torch.cat(images).view(height, width, 3)
        if 0 < left < width:
            image[:, left - 1 : left + 1] = 1.0
        return Painted(image, torch.cat(depths).view(height, width) if look.with_depth else None)

    def is_slow(self, look: Look) -> bool:
        return False

    def samples_per_ray(self, camera: Cameras) -> float | None:
        return None

    def _meet(self, origins: Tensor, directions: Tensor, look: Look) -> tuple[Tensor, Tensor, Tensor]:
        """Where rays in the world meet the nearest plane: coordinates `[n, 3]`, length (inf: nowhere), on an edge."""
        linear, offset = self.world_from_box[:, :3], self.world_from_box[:, 3]
        inverse = torch.linalg.inv(linear.double())
        start = ((origins - offset).double() @ inverse.T).float()
        along = (directions.double() @ inverse.T).float()
        nearest = torch.full((len(start),), float("inf"))
        found, is_edge = torch.zeros_like(start), torch.zeros(len(start), dtype=torch.bool)
        for axis, place in self._planes(look):
            lengths = (place - start[:, axis]) / along[:, axis]
            x = start + lengths[:, None] * along
            x[:, axis] = place
            others = x[:, [other for other in range(3) if other != axis]]
            meets = (lengths > 0) & (lengths < nearest) & ((others >= 0) & (others <= 1)).all(dim=1)
            nearest, found[meets] = torch.where(meets, lengths, nearest), x[meets]
            if self._is_cut:
                border = torch.minimum(others, 1 - others).amin(dim=1) < _EDGE
                is_edge = torch.where(meets, border, is_edge)
        if len(self.info.sizes) == 3 and not self._is_cut:
            found[:, 2] = look.time
        return found[:, : len(self.info.sizes)], nearest, is_edge

    def _planes(self, look: Look) -> list[tuple[int, float]]:
        if not self._is_cut:
            return [(2, 0.0)]
        # the last axis of the array is the first coordinate
        return [(2 - axis, place) for axis, place in enumerate(look.sections) if place is not None]

    def _colors(self, values: Values, x: Tensor, look: Look, behind: Tensor) -> Tensor:
        if look.mode != "error" or self.data is None:
            return self._shown(values(x), look, behind)
        sizes = torch.tensor(self.info.sizes[::-1])
        centres = ((x * sizes).floor().clamp_max(sizes - 1) + 0.5) / sizes
        difference = self._shown(values(centres), look, behind) - self._shown(self.data(centres), look, behind)
        return colored(difference.abs().mean(dim=1), _ERROR_SHOWN, 0.0)

    def _shown(self, values: Tensor, look: Look, behind: Tensor) -> Tensor:
        """sRGB `[n, 3]` of values `[n, n_channels]`, over what is behind where there is an alpha."""
        info, values = self.info, values.clamp(0, 1)
        if self._is_cut:
            black, white = look.window or (info.low, info.high)
            stored = values * (info.high - info.low) + info.low
            values = ((stored - black) / max(white - black, 1e-9 * (info.high - info.low))).clamp(0, 1)
        n_colors = 1 if info.n_channels <= 2 else 3
        colors, alpha = values[:, :n_colors], values[:, n_colors:]
        if np.dtype(info.dtype).kind == "f" and not self._is_cut:
            colors = linear_to_srgb(colors * (info.high - info.low) + info.low)
        colors = colors.expand(-1, 3)
        return colors if not alpha.shape[1] else torch.lerp(behind, colors, alpha)


class GridValues:
    """The values of a grid at positions, those of the sample whose cell holds them.

    Args:
        read: gives the signal, or raises UserError; called when values are wanted first.
    """

    def __init__(self, read: Callable[[], GridSignal]) -> None:
        self._read: Callable[[], GridSignal] = read
        self._signal: GridSignal | None = None

    def __call__(self, x: Tensor) -> Tensor:
        if self._signal is None:
            self._signal = self._read()
        sizes = self._signal.info.sizes
        index = torch.zeros(len(x), dtype=torch.int64)
        for axis, size in enumerate(sizes):
            place = (x[:, len(sizes) - 1 - axis] * size).long().clamp(0, size - 1)
            index = index * size + place
        rows: Any = self._signal.rows()
        return torch.from_numpy(self._signal.normalized(np.take(rows, index.numpy(), axis=0)))
