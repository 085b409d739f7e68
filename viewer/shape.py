# SPDX-License-Identifier: Apache-2.0
"""Signed distance fields on the stage: their surface, sphere-traced."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.progress import Progress
from neurfield.rendering.outputs import colored, depth_per_length, depth_range
from neurfield.rendering.renderer import image_rays
from neurfield.rendering.sphere_trace import MAX_STEPS, Distance, normals, shades_of, trace
from neurfield.viewer.detail import Detail
from neurfield.viewer.look import CropBox, Look
from neurfield.viewer.stage import Controls, Painted
from neurfield.viewer.triangles import Triangles

MODES = {
    "colour": "the surface, lit from above the camera; where the crop box cuts it, orange",
    "depth": "distance along the optical axis",
    "normals": "directions of the surface",
    "cost": "steps along each ray",
    "error": "distance of the surface from that of the mesh; white from 1/500 of the cube on",
}
_ERROR_SHOWN = 1 / 500
_TILE_RAYS = 1 << 15
_MOVING_STEPS = 48  # of 128: what is left out are rays that graze the surface
_WHITE = (1.0, 1.0, 1.0)
_CUT = (1.0, 0.62, 0.3)  # colour of a cut
_PROBE = 96  # pixels of the longer side of the view whose steps are counted


@dataclass(frozen=True)
class ShapeStage:
    """The surface of a distance field over the unit cube.

    Attributes:
        distance: the field.
        normalization: from the world, the frame of the mesh, to the unit cube.
        triangles: the mesh; None: there is none, and no error can be shown.
        version: grows when the field changes.
    """

    distance: Distance
    normalization: Normalization
    triangles: Triangles | None = None
    version: Callable[[], int] = lambda: 0
    _detail: Detail[Distance] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_detail", Detail(self.distance, self.version))

    @property
    def modes(self) -> Mapping[str, str]:
        return MODES if self.triangles else {name: text for name, text in MODES.items() if name != "error"}

    @property
    def controls(self) -> Controls:
        return Controls(can_crop=True, n_levels=self._detail.n_levels)

    @torch.no_grad()
    def paint(self, camera: Cameras, look: Look, step: Progress, is_final: bool) -> Painted:
        width, height = camera.sizes[0].tolist()
        norm, pose = self.normalization, camera.c2w[0]
        whole = self._detail.field(look.level)
        distance = cropped(whole, look.crop, norm)
        unit, rows = self.normalization.in_unit(camera), max(_TILE_RAYS // width, 1)
        background = torch.tensor(look.background or _WHITE)
        images, depths = [], []
        for top in range(0, height, rows):
            origins, directions = image_rays(unit, top, min(top + rows, height))
            hits = trace(distance, origins, directions, MAX_STEPS if is_final else _MOVING_STEPS)
            x, hit = hits.positions[hits.is_hit], hits.is_hit
            image = background.expand(len(hit), 3).clone()
            if look.mode == "cost":
                image = colored(hits.n_steps, MAX_STEPS / 2, 0.0)
            elif look.mode == "error" and self.triangles is not None:
                image[hit] = colored(self.triangles.distance(x), _ERROR_SHOWN, 0.0)
            elif look.mode == "normals":
                image[hit] = normals(distance, x) / 2 + 0.5
            elif look.mode != "depth":
                shades = shades_of(normals(distance, x), *pose[:, :3].T)[:, None].expand(-1, 3)
                is_cut = distance(x) > whole(x) + 1e-6 if look.crop else torch.zeros(len(x), 1, dtype=torch.bool)
                image[hit] = torch.where(is_cut, shades * torch.tensor(_CUT), shades)
            images.append(image)
            depths.append(torch.where(hit, hits.lengths / norm.scale * depth_per_length(camera, directions), 0.0))
            step(min(top + rows, height) / height)
        image, depth = torch.cat(images).view(height, width, 3), torch.cat(depths).view(height, width)
        if look.mode == "depth":
            near, far = look.depth_range or depth_range(depth)
            image = torch.where((depth > 0)[..., None], colored(depth, near, far, look.colors), image)
        return Painted(image, depth if look.with_depth else None)

    def is_slow(self, look: Look) -> bool:
        return False

    def samples_per_ray(self, camera: Cameras) -> float | None:
        small = self.normalization.in_unit(camera.resized(_PROBE / int(camera.sizes[0].max())))
        return float(trace(self.distance, *image_rays(small, 0, int(small.sizes[0, 1]))).n_steps.mean())


def cropped(distance: Distance, crop: CropBox | None, norm: Normalization) -> Distance:
    """The part of a solid that is in a box: the larger of both distances."""
    if crop is None:
        return distance

    def both(x: Tensor) -> Tensor:
        outside = norm.scale * crop.distance(norm.to_world(x))
        return torch.maximum(distance(x), outside[:, None])

    return both
