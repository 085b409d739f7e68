# SPDX-License-Identifier: Apache-2.0
"""Moving training cameras to where the field sees their photos from, while the field is trained.

Each step visits cameras. Some pixels of each are drawn with the field as it is, with three rays around the middle,
whose colours say how the picture changes with the direction and, as the depth is known, with a turn and a shift of the
camera. A damped Gauss-Newton step on that moves it. Nothing is differentiated, so any field will do; no state is kept
beside the corrections.
"""

import dataclasses
import math
from collections.abc import Callable

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.corrections import CommonMotions, corrected
from neurfield.fields.conditions import Conditions
from neurfield.rendering.renderer import Renderer
from neurfield.sampling.pixels import PixelSampler
from neurfield.training.schedule import learning_rate_factor

# origins, directions [n, 3] -> rgb over black [n, 3], distance along the ray and opacity [n]
DrawFn = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]

HULL_MARGIN = 0.05  # of an image's longer side: so far may silhouettes be off
_FIRST_STEP = 150  # until then the field says nothing about places
_VISITS, _PIXELS = 2, 256  # of a step, and of each
_REACH = 2.0  # pixels from the middle of three rays to each
_RATE, _DECAY_START, _LAST_RATE = 0.7, 0.5, 0.03  # of a Gauss-Newton step; it falls as a learning rate does
_TRUST = 0.001  # radians, and units of unit space, that residuals as they are may ask for without much evidence
_PRIOR = 0.02  # how far cameras are off, before anything is known
_LARGEST_STEP = 0.01
_NEAREST = 0.05  # distance of what is seen, at least; shifts matter in its inverse
_RUN = 0x9E3779B9  # keeps the random numbers apart from those of the training's pixels


class CameraRefinement:
    """Corrections of the training cameras, and what finds them.

    Args:
        pixels: of the training views, with cameras as they were read.
        renderer: draws the field as it is.
        seed: of the run.

    Attributes:
        corrections: float32 `[n_views, 6]` in unit space, see neurfield.cameras.corrections; changed in place.
    """

    def __init__(self, pixels: PixelSampler, renderer: Renderer, seed: int):
        self._read, self._renderer, self._seed = pixels.cameras, renderer, seed ^ _RUN
        self._views = [pixels.of_view(view) for view in range(len(pixels.cameras))]
        self._pixel_angles = (1 / pixels.cameras.intrinsics[:, 0]).tolist()
        self._common = CommonMotions(pixels.cameras.c2w[:, :, 3])
        self.corrections = pixels.cameras.c2w.new_zeros(len(pixels.cameras), 6)

    @property
    def cameras(self) -> Cameras:
        """In unit space, as they are now."""
        return dataclasses.replace(self._read, c2w=corrected(self._read.c2w, self.corrections))

    @torch.no_grad()
    def step(self, number: int, progress: float, behind: Tensor | None) -> None:
        """Visits the next cameras; all have had their turn before one has its next.

        Args:
            number, progress: of the training's step, and the used part of its budget.
            behind: colour behind transparent pixels; None: random.
        """
        first = (number - _FIRST_STEP) * _VISITS
        for visit in range(max(first, 0), max(first + _VISITS, 0)):
            self._visit(visit, progress, behind)

    def _visit(self, number: int, progress: float, behind: Tensor | None) -> None:
        turn, place = divmod(number, len(self._views))
        view = int(torch.randperm(len(self._views), generator=torch.Generator().manual_seed(turn))[place])
        pixels = self._views[view]
        if not pixels.n_blocks:
            return  # its mask leaves no pixel
        pixels.cameras = self.cameras[view]
        drawn = pixels.sample(_PIXELS, number, self._seed)
        target, background = ops.over_background(drawn.targets, behind, self._seed, number)
        conditions = Conditions(self._read.times[view : view + 1], torch.tensor([view], device=target.device))
        draw, reach = self._renderer.drawing(conditions), _REACH * self._pixel_angles[view]
        color, change = color_and_change(draw, drawn.origins, drawn.directions, background, reach)
        rate = _RATE * learning_rate_factor(progress, _DECAY_START, _LAST_RATE)
        self.corrections[view] -= rate * _gauss_newton(color - target, change, self.corrections[view])
        self.corrections.copy_(self._common.without(self.corrections))

    def describe(self) -> str:
        """How far cameras were moved, in a line."""
        turns, shifts = (x.norm(dim=1).median() for x in self.corrections.split(3, dim=1))
        shift = float(shifts) / self._renderer.normalization.scale
        angle = math.degrees(float(turns))
        return f"training cameras were turned by {angle:.2g} degrees and moved by {shift:.2g} (medians)"


def color_and_change(
    draw: DrawFn, origins: Tensor, directions: Tensor, background: Tensor, reach: float
) -> tuple[Tensor, Tensor]:
    """Colours `[n, 3]` of rays `[n, 3]`, and their derivatives `[n, 3, 6]` by a correction of the camera.

    Colour is taken to be linear over `reach` radians around a ray, and what is seen to look the same from everywhere. A
    camera turned by w and shifted by s sees along d what it saw along d + w x d + s / z, at the distance z.
    """
    side = torch.eye(3).to(directions)[directions.abs().argmin(dim=1)]
    right = torch.nn.functional.normalize(torch.linalg.cross(directions, side), dim=1)
    up = torch.linalg.cross(directions, right)
    angles = [2 * math.pi * k / 3 for k in range(3)]
    ways = torch.stack([math.cos(a) * right + math.sin(a) * up for a in angles], dim=1)  # [n, 3, 3]
    around = torch.nn.functional.normalize(directions[:, None] + reach * ways, dim=2)
    rays = torch.cat([directions[:, None], around], dim=1).view(-1, 3)
    rgb, depth, acc = draw(origins.repeat_interleave(4, dim=0), rays)
    seen = (rgb + (1 - acc)[:, None] * background.repeat_interleave(4, dim=0)).view(-1, 4, 3)
    distance = (depth / acc.clamp_min(1e-10)).view(-1, 4)[:, 0].clamp_min(_NEAREST)
    by_direction = 2 / (3 * reach) * (seen[:, 1:].transpose(1, 2) @ ways)
    by_turn = torch.linalg.cross(directions[:, None].expand_as(by_direction), by_direction)
    return seen[:, 0], torch.cat([by_turn, by_direction / distance[:, None, None]], dim=2)


def _gauss_newton(errors: Tensor, change: Tensor, now: Tensor) -> Tensor:
    """What is to be taken off the corrections `now` `[6]` of a camera, by errors `[n, 3]` of colours and their change.

    Directions in which the colours say little are damped and drawn to zero, by how large the errors are anyway.
    """
    rows = change.flatten(0, 1).double()
    variance = errors.double().square().mean()
    both = torch.eye(6, dtype=rows.dtype, device=rows.device) * variance
    normal = rows.T @ rows + both * (_TRUST**-2 + _PRIOR**-2)
    wanted = rows.T @ errors.double().flatten() + variance / _PRIOR**2 * now
    delta = torch.linalg.solve_ex(normal, wanted)[0]
    delta = delta * (_LARGEST_STEP / delta.norm().clamp_min(_LARGEST_STEP))
    return torch.where(delta.isfinite().all(), delta, 0).to(now.dtype)
