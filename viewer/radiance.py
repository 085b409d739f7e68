# SPDX-License-Identifier: Apache-2.0
"""Radiance fields on the stage: colour, depth, normals, opacity, occupancy, cost, and the error against the photos."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.fields.radiance_module import RadianceModule
from neurfield.progress import Progress
from neurfield.rendering.outputs import colored, depth_map, depth_per_length, depth_range, picture
from neurfield.rendering.renderer import Renderer, image_rays
from neurfield.rendering.volume import MarchOptions, march_rays
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.viewer.detail import Detail
from neurfield.viewer.look import CropBox, Look
from neurfield.viewer.photos import Photos, fitted_into
from neurfield.viewer.stage import Controls, Painted

MODES = {
    "colour": "what the field looks like",
    "depth": "distance along the optical axis",
    "normals": "directions of surfaces: of the depth while the camera moves, of the density at rest",
    "opacity": "how much of the light comes from the field",
    "occupancy": "cells that may have density, coloured by place",
    "cost": "samples in those cells along each ray",
    "error": "difference from the photo of the nearest training view, seen from there",
}
_DEPTH = ("depth", "accumulation")  # what a depth map is made of
# what is rendered for a mode; final normals are those of the density instead
_OUTPUTS = {
    "colour": ("rgb",),
    "depth": _DEPTH,
    "normals": _DEPTH,
    "opacity": ("accumulation",),
    "occupancy": ("occupancy",),
    "cost": ("samples",),
    "error": ("rgb",),
}
# Rays between two looks at whether the picture is still wanted: some 20 ms on two cores; fewer than a million fill no
# more than a part of a GPU.
_TILE_RAYS, _NORMAL_TILE_RAYS = {"cpu": 1 << 15, "cuda": 1 << 20}, 1 << 11
_ERROR_SHOWN = 0.25  # difference of sRGB values with the last colour
_PROBE = 48  # pixels of the longer side of the view whose samples are counted


@dataclass(frozen=True)
class RadianceStage:
    """A radiance field, its grid and the views it was trained on; the field and the grid may change while it is shown.

    Attributes:
        field, grid, normalization, options, background: see neurfield.rendering.renderer.Renderer.
        cameras: of the training views, world frame; None: there are none, and no error can be shown.
        train: numbers of those views.
        photos: their images.
        version: grows when field or grid change.
    """

    field: RadianceModule
    grid: OccupancyGrid
    normalization: Normalization
    options: MarchOptions
    background: tuple[float, float, float]
    cameras: Cameras | None = None
    train: tuple[int, ...] = ()
    photos: Photos | None = None
    version: Callable[[], int] = lambda: 0
    _cropped: dict[tuple[CropBox, int], OccupancyGrid] = dataclasses.field(init=False)
    _detail: Detail[RadianceModule] = dataclasses.field(init=False)

    @property
    def modes(self) -> dict[str, str]:
        return MODES if self.photos is not None else {name: text for name, text in MODES.items() if name != "error"}

    @property
    def controls(self) -> Controls:
        return Controls(
            "photo" if self.photos is not None else "",
            can_crop=True,
            n_levels=self._detail.n_levels,
            is_dynamic="times" in self.field.needs,
            n_appearances=len(self.train) if "views" in self.field.needs else 0,
        )

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cropped", {})
        object.__setattr__(self, "_detail", Detail(self.field, self.version))

    def paint(self, camera: Cameras, look: Look, step: Progress, is_final: bool) -> Painted:
        width, height = camera.sizes[0].tolist()
        camera = dataclasses.replace(camera, times=torch.full_like(camera.times, look.time))
        if look.mode != "error" and look.split is None:
            return self._painted(camera, look, step, is_final)
        view = self.nearest(camera)
        if view is None or self.photos is None or self.cameras is None:
            return self._painted(camera, look, step, is_final)
        seen = self.cameras[view]
        seen = seen.resized(min(width / int(seen.sizes[0, 0]), height / int(seen.sizes[0, 1]), 1.0))
        photo = self.photos.image(view, self._background(look))
        if "views" in self.field.needs:
            look = dataclasses.replace(look, appearance=self.train.index(view))
        painted = self._painted(seen, look, step, is_final, photo)
        image, photo = (fitted_into(part, width, height) for part in (painted.image.cpu(), photo))
        if look.split is not None:
            left = round((1 - look.split) * width)
            image[:, left:] = photo[:, left:]
            image[:, max(left - 1, 0) : left + 1] = 1.0
        return Painted(image, None, f"view {view}, the nearest of the training")

    def _painted(
        self, camera: Cameras, look: Look, step: Progress, is_final: bool, photo: Tensor | None = None
    ) -> Painted:
        """The field in a mode; with a photo of the same shape, mode `error` compares with it."""
        is_normal = look.mode == "normals" and is_final
        outputs = ("normal",) if is_normal else _OUTPUTS[look.mode]
        with_depth = look.with_depth and look.mode not in ("occupancy", "cost")
        if with_depth:
            outputs = tuple(dict.fromkeys(outputs + _DEPTH))
        tile_rays = _NORMAL_TILE_RAYS if is_normal else _TILE_RAYS[self.grid.bitfield.device.type]
        result = self.renderer(look).render(camera, outputs, step, tile_rays, look.appearance, device=None)
        depth = depth_map(result, camera, "z") if "depth" in outputs else None
        image = image_of(result, depth, camera, look, self._background(look), photo)
        return Painted(image.clamp(0, 1), depth if with_depth else None)

    def renderer(self, look: Look) -> Renderer:
        """What draws the field with the background and the crop of a look."""
        grid = self.grid if look.crop is None else self.cropped_grid(look.crop)
        field = self._detail.field(look.level)
        return Renderer(field, grid, self.normalization, self.options, self._background(look).tolist())

    def cropped_grid(self, crop: CropBox) -> OccupancyGrid:
        """The grid without what is outside of a box; the last one is kept."""
        kept = self._cropped
        key = (crop, self.version())
        if key not in kept:
            kept.clear()
            kept[key] = self.grid.cropped(lambda x: crop.inside(self.normalization.to_world(x)))
        return kept[key]

    def nearest(self, camera: Cameras) -> int | None:
        """The training view that is most like the camera: its place, in units of the scene, its direction, its time.

        A panorama looks in all directions.
        """
        if self.cameras is None or not self.train:
            return None
        views = self.cameras[list(self.train)]
        apart = (views.c2w[:, :, 3] - camera.c2w[:, :, 3]).norm(dim=1) * self.normalization.scale
        turned = 1 - (views.c2w[:, :, 2] * camera.c2w[:, :, 2]).sum(dim=1)
        turned[views.is_panorama | camera.is_panorama] = 0
        # a photo of another time shows something else, however near it was taken
        away = 2 * (views.times - camera.times).abs() if "times" in self.field.needs else 0.0
        return self.train[int((apart + turned + away).argmin())]

    def is_slow(self, look: Look) -> bool:
        return look.mode == "normals"  # many densities a pixel

    def samples_per_ray(self, camera: Cameras) -> float | None:
        small = camera.resized(_PROBE / int(camera.sizes[0].max()))
        unit = self.normalization.in_unit(small)
        rays = image_rays(unit, 0, int(unit.sizes[0, 1]))
        origins, directions = (part.to(self.grid.bitfield.device) for part in rays)
        return float(march_rays(self.grid, origins, directions, self.options).packed_info[:, 1].float().mean())

    def _background(self, look: Look) -> Tensor:
        return torch.tensor(look.background or self.background, dtype=torch.float32)


def image_of(
    result: Mapping[str, Tensor],
    depth: Tensor | None,
    camera: Cameras,
    look: Look,
    background: Tensor,
    photo: Tensor | None = None,
) -> Tensor:
    """sRGB float32 `[h, w, 3]` of what was rendered for a look, where that lies, see `_OUTPUTS`.

    Args:
        depth: of the optical axis, `[h, w]`; for the modes that are drawn from it.
        background: `[3]`, behind a depth.
        photo: `[..., 3]` of any size, for the error.
    """
    if look.mode in ("occupancy", "cost"):
        ((name, value),) = result.items()
        return picture(name, value).float() / 255
    if look.mode == "depth":
        assert depth is not None
        near, far = look.depth_range or depth_range(depth)
        color = colored(depth, near, far, look.colors)
        return torch.where((depth > 0)[..., None], color, background.to(depth.device))
    if look.mode == "normals":
        normal = result.get("normal")
        if normal is None:
            assert depth is not None
            normal = normals_of_depth(depth, camera)
        return normal / 2 + 0.5
    if look.mode == "opacity":
        return result["accumulation"][..., None].expand(-1, -1, 3)
    rgb = result["rgb"]
    if look.mode == "error" and photo is not None:
        photo = photo.to(rgb.device).permute(2, 0, 1)[None]
        same = torch.nn.functional.interpolate(photo, rgb.shape[:2], mode="area")[0].permute(1, 2, 0)
        return colored((rgb - same).abs().mean(2), _ERROR_SHOWN, 0.0)
    return rgb


def normals_of_depth(depth: Tensor, camera: Cameras) -> Tensor:
    """Normals `[h, w, 3]`, world frame, across the slopes of a depth map `[h, w]` of kind "z"; zero where there is no
    depth.
    """
    height, width = depth.shape
    camera = camera.to(depth.device)
    origins, directions = image_rays(camera, 0, height)
    lengths = depth.reshape(-1) / depth_per_length(camera, directions)
    points = (origins + directions * lengths[:, None]).view(height, width, 3)
    right, down = torch.zeros_like(points), torch.zeros_like(points)
    right[:, :-1] = points[:, 1:] - points[:, :-1]
    down[:-1] = points[1:] - points[:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(down, right), dim=2)
    return torch.where((depth > 0)[..., None], normal, 0.0)
