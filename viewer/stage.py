# SPDX-License-Identifier: Apache-2.0
"""What a viewer shows: something that can be painted from a camera. One kind of field, one stage.

A further kind takes one module with a class like Stage and one line in neurfield.viewer.stages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.progress import Progress
from neurfield.viewer.look import Look


@dataclass(frozen=True)
class Painted:
    """A picture as a stage gives it, on any device; a GPU may still be at it.

    Attributes:
        image: sRGB float32 `[h, w, 3]`, 0 ... 1.
        depth: along the optical axis, world units, `[h, w]`; None where the look asks for none.
        note: for the page, or empty.
    """

    image: Tensor
    depth: Tensor | None = None
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture as a page takes it, on the CPU.

    Attributes:
        image: sRGB uint8 `[h, w, 3]`.
        depth, note: as of Painted.
    """

    image: Tensor
    depth: Tensor | None
    note: str

    @classmethod
    def of(cls, painted: Painted) -> "Picture":
        depth = painted.depth
        return cls(rounded(painted.image), None if depth is None else depth.cpu(), painted.note)


def rounded(image: Tensor) -> Tensor:
    """uint8 on the CPU of an image in 0 ... 1.

    It is rounded where it lies, since bytes are quicker to copy than floats. On the CPU numpy does that in this thread:
    torch's threads would wait for each other, 20 ms now and then where a browser, say, is at work beside them.
    """
    is_here = image.device.type == "cpu"
    levels: Any = (image.numpy() if is_here else image) * 255
    levels += 0.5
    if not is_here:
        return levels.to(torch.uint8).cpu()
    with np.errstate(invalid="ignore"):  # a field that is broken has pixels that are no numbers
        return torch.from_numpy(levels.astype(np.uint8))


@dataclass(frozen=True)
class Controls:
    """What a page offers for a stage beside its modes.

    Attributes:
        beside: what may be painted beside the field to be compared with it, "" for nothing.
        can_crop: the crop box cuts it.
        is_flat: a picture, which a drag moves instead of turning it.
        n_levels: of detail; below 2 there is no slider.
        n_frames, fps: of a video; 0 for what has no pictures.
        is_dynamic: a field that moves, at any time.
        n_appearances: looks that it can have; 0 where there is one.
        sections: samples along each axis of a volume, x first; empty where nothing is cut.
        values: lowest and highest stored value of a volume, between which its window lies.
    """

    beside: str = ""
    can_crop: bool = False
    is_flat: bool = False
    n_levels: int = 0
    n_frames: int = 0
    fps: float = 0.0
    is_dynamic: bool = False
    n_appearances: int = 0
    sections: tuple[int, ...] = ()
    values: tuple[float, float] | None = None


class Stage(Protocol):
    """What the sessions of a viewer ask of a field. Called by one thread at a time."""

    @property
    def modes(self) -> Mapping[str, str]:
        """Names of the ways to draw it, with what they show; the first is what a page begins with."""

    @property
    def controls(self) -> Controls:
        """What else a page offers."""

    def paint(self, camera: Cameras, look: Look, step: Progress, is_final: bool) -> Painted:
        """A picture of the size of `camera`, a batch of one; a final one may take longer."""

    def is_slow(self, look: Look) -> bool:
        """Whether a final picture with this look takes much longer than one that is not final."""

    def samples_per_ray(self, camera: Cameras) -> float | None:
        """Mean cost of the view, or None where that means nothing."""
