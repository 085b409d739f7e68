# SPDX-License-Identifier: Apache-2.0
"""Learning a radiance field from posed images.

A step marches a batch of rays through the occupancy grid, composites the field along them and compares with the pixels;
the fused step does all of that in one native call where it supports the field. On CUDA every batch has the most rays
that there may be, and the step takes as many of them as it has room for; the host never waits for the device.
"""

import dataclasses
import math
from typing import Any

import torch
from torch import Tensor

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization, Scene
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.fields.radiance_module import RadianceModule
from neurfield.fields.surface import SurfaceField
from neurfield.ops.pixel import SampledPixels
from neurfield.rendering.color import BACKGROUNDS, encoded
from neurfield.rendering.renderer import Renderer
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import WARMUP_STEPS, OccupancyGrid
from neurfield.sampling.pixels import PixelSampler
from neurfield.training import depth_maps, estimators
from neurfield.training.background import with_background
from neurfield.training.camera_refinement import HULL_MARGIN, CameraRefinement
from neurfield.training.composed_step import RayBatch
from neurfield.training.density import density_over_time
from neurfield.training.device import why_not_graph
from neurfield.training.method import MethodConfig, RunConfig
from neurfield.training.optimizer import Adam
from neurfield.training.point_rays import PointRays, weighted, woven
from neurfield.training.sampler import SamplerConfig
from neurfield.training.steps import make_step, why_no_shape_loss
from neurfield.training.task import StepFn, StepResult
from neurfield.training.view_set import CORRECTIONS, ViewSet

_FIRST_SAMPLES_PER_RAY = 32  # guess for the first step; the next ones know
_WARMUP_INTERVAL = 16  # steps between the grid's first updates, when most of its cells turn out to be empty
_PIXELS_PER_POINT = 16  # of a step's rays so many are of pixels, for each through a point whose distance is known
_RAY_GRANULE = 64  # ray counts are multiples of it, so that work divides evenly


class RadianceTask:
    """The `train` views of a scene, to be learned by a radiance field.

    Args:
        scene: images of the training views, at least; they are copied into one buffer.
        config: what to train and how; see RunConfig.

    Attributes:
        config: the same, with the background that these images have.
        field, grid, pixels: what is trained, where it is not empty, and what it is trained on.
        march: where along training rays samples lie.
        device: where all of that lies.
        notes: what the user should know.
        points: rays through points of known distance, if the scene has any that are learned from.
        estimator: what draws the samples where that is not the march.
        refinement: what moves the training cameras, where the method says so.
        n_rays: rays of the next step.
        renderer: draws the field as it is.

    Raises:
        UserError: the scene has no training views, or has no times where the field needs them, or the method does not
            fit, or not on CUDA.
    """

    def __init__(self, scene: Scene, config: RunConfig):
        asked, config = config, with_background(config, scene)
        method, norm, views = config.method, scene.normalization, scene.views("train")
        self.config, self.device = config, torch.device(config.device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.field = method.field.build(norm.aabb, len(views))
        cameras = scene.unit_cameras("train")
        _check(self.field, config, scene.name, cameras)
        sampler = method.sampler
        march = MarchOptions.for_box(norm.aabb_scale, sampler.step_scale)
        self.march = dataclasses.replace(march, stop_transmittance=sampler.stop_transmittance)
        self.grid = OccupancyGrid(norm.aabb_scale, threshold=sampler.occupancy_threshold, decay=sampler.occupancy_decay)
        images = [encoded(scene.images[view]) for view in views]
        masks = [scene.masks[view] for view in views] if scene.masks else None
        self.notes = _notes(self.field, asked, config, norm, cameras)
        depths = depth_maps.in_unit(scene, views) if method.loss.depth > 0 else None
        self.pixels = PixelSampler(images, cameras, masks, depths)
        if reason := depth_maps.contradiction(self.pixels, norm.aabb, config.seed):
            self.pixels.depths = None
            self.notes.append(f"the depth maps are not used: {reason}; is their unit right (depth_unit_scale_factor)?")
        self.points = None
        if scene.points is not None and method.loss.points > 0:
            points = PointRays(scene.points, views, self.pixels, norm)
            self.points = points if len(points) else None
        if self.points is not None:
            self.notes.append(f"{len(self.points)} distances to points of the data are learned from (loss.points)")
            self.points.to(self.device)
        self.pixels.to(self.device)
        self.field.to(self.device)
        self.grid.to(self.device)
        cameras = cameras.to(self.device)
        self.grid.close_unseen(cameras)
        # what one view sees to be empty, another one may see full at another time; and a field with a coarse companion
        # is looked at outside of the hull, too
        has_companion = self.field.companion() is not None
        is_seen_alike = not (cameras.times_differ or has_companion)
        refines = method.training.refine_cameras
        if method.sampler.hull and scene.has_alpha and is_seen_alike:
            self.grid.carve(cameras, self.pixels.silhouettes(HULL_MARGIN if refines else 0.0))
            self.pixels.restrict(self.grid)
        self.estimator = estimators.create(sampler, self.grid, cameras.c2w[:, :, 3], self.march, config.seed)
        kind = method.training.background
        self._behind = None if kind == "random" else torch.tensor(BACKGROUNDS[kind], device=self.device)
        self.renderer = method_renderer(method, self.field, self.grid, norm)
        sharp = Renderer(self.field, self.grid, norm, self.march)
        self.refinement = CameraRefinement(self.pixels, sharp, config.seed) if refines else None
        self._adapts = self.device.type == "cpu" or self.estimator is not None or has_companion
        per_ray = _FIRST_SAMPLES_PER_RAY
        if has_companion and isinstance(sampler, SamplerConfig):
            per_ray = 2 * sampler.n_coarse + sampler.n_fine
        first = method.training.n_samples / per_ray if self._adapts else method.training.max_rays
        self.n_rays = self._rounded_rays(first)

    def start(self, optimizer: Adam) -> StepFn:
        method, seed = self.config.method, self.config.seed
        take_step = make_step(self.field, self.grid, optimizer, self.march, method, seed, self.estimator)
        places = self.grid if self.estimator is None else self.estimator

        def step(number: int, learning_rate: float, progress: float) -> StepResult:
            self.field.begin_step(progress)
            interval = method.sampler.update_interval if number >= WARMUP_STEPS else _WARMUP_INTERVAL
            if method.sampler.update_interval and number > 0 and number % interval == 0:
                # no more densities than the steps since the last update took samples: large boxes have millions of
                # cells
                max_draws = interval * method.training.n_samples
                places.update(number, density_over_time(self.field, seed, number), seed, max_draws)
            batch = self._batch(number, progress)
            result = take_step(batch, learning_rate, number)
            if self.refinement is not None:
                self.refinement.step(number, progress, self._behind)
                self.pixels.cameras = self.refinement.cameras
            if not self._adapts:
                return result
            self._adapt_rays(result)
            return dataclasses.replace(result, n_rays=batch.n_rays)

        return step

    def placed(self, views: ViewSet) -> ViewSet:
        """The views with the training cameras where they are now."""
        return views if self.refinement is None else views.moved(self.refinement.corrections)

    def _batch(self, step: int, progress: float) -> RayBatch:
        """Rays and targets; the background, the same for target and prediction, teaches the field to be empty there."""
        method = self.config.method
        per_pixel = method.sampler.rays_per_pixel if progress >= method.sampler.rays_per_pixel_start else 1
        n_pixels = max(self.n_rays // per_pixel, 1)
        drawn, distances = self._draw(n_pixels, step, per_pixel)
        colors = ops.over_background(drawn.targets, self._behind, self.config.seed, step)
        conditions = self._conditions(drawn.picks[:, 0], per_pixel)
        return RayBatch(drawn.origins, drawn.directions, *colors, conditions, distances)

    def _draw(self, n_pixels: int, step: int, per_pixel: int) -> tuple[SampledPixels, Tensor | None]:
        """Pixels, and `[n_rays, 2]` what is known of the distances of what their rays hit, see RayBatch.

        Points are spread evenly among the others: a step that drops rays drops the last.
        """
        loss, seed = self.config.method.loss, self.config.seed
        n_points = 0 if self.points is None else -(-n_pixels // _PIXELS_PER_POINT)
        drawn = self.pixels.sample(n_pixels - n_points, step, seed, per_pixel)
        of_maps = self.pixels.distances(drawn)
        distances = None if of_maps is None else weighted(of_maps, loss.depth)
        if self.points is None:
            return drawn, distances
        if distances is None:
            distances = drawn.origins.new_zeros(len(drawn.origins), 2)
        points, known = self.points.sample(n_points, self.pixels.cameras.c2w, step, seed, per_pixel)
        pairs = zip((*points, weighted(known, loss.points)), (*drawn, distances), strict=True)
        both = [
            woven(a.unflatten(0, (n_points, -1)), b.unflatten(0, (n_pixels - n_points, -1)), _PIXELS_PER_POINT)
            for a, b in pairs
        ]
        *parts, known = (rows.flatten(0, 1) for rows in both)
        return SampledPixels(*parts), known

    def _conditions(self, views: Tensor, per_pixel: int) -> Conditions:
        """What the field needs to know of rays, so many for each pixel of training views `[n_pixels]`."""
        needs = self.field.needs
        if not needs:
            return Conditions()
        rows = views.long().repeat_interleave(per_pixel)
        times = self.pixels.cameras.times[rows] if "times" in needs else None
        return Conditions(times, rows if "views" in needs else None)

    def _adapt_rays(self, result: StepResult) -> None:
        """The ray count whose samples would have met the target."""
        wanted = result.n_rays * self.config.method.training.n_samples / max(result.n_samples, 1)
        self.n_rays = self._rounded_rays(min(wanted, 2.0 * self.n_rays))  # an empty batch says little about the next

    def _rounded_rays(self, n: float) -> int:
        rounded = math.ceil(n / _RAY_GRANULE) * _RAY_GRANULE
        return max(min(rounded, self.config.method.training.max_rays), _RAY_GRANULE)

    def tensors(self) -> dict[str, Tensor]:
        state = {f"occupancy.{name}": value for name, value in self.grid.state_dict().items()}
        if self.refinement is not None:
            state[CORRECTIONS] = self.refinement.corrections
        return state if self.estimator is None else state | self.estimator.tensors()

    def counters(self) -> dict[str, Any]:
        return {"n_rays": self.n_rays}

    def restore(self, counters: dict[str, Any]) -> None:
        if self._adapts:
            self.n_rays = counters["n_rays"]

    def refresh(self) -> None:
        if self.refinement is not None:
            self.pixels.cameras = self.refinement.cameras
        self.grid.load_state_dict(self.grid.state_dict())  # its bit field follows its densities
        if self.estimator is not None:
            self.estimator.refresh()


def method_renderer(
    method: MethodConfig, field: RadianceModule, grid: OccupancyGrid, normalization: Normalization
) -> Renderer:
    """What draws a field as its method says."""
    sampler = method.sampler
    options = MarchOptions.for_box(normalization.aabb_scale, sampler.render_step_scale)
    return Renderer(field, grid, normalization, options, BACKGROUNDS[method.background], sampler.rays_per_pixel)


def _check(field: RadianceModule, config: RunConfig, name: str, cameras: Cameras) -> None:
    """Raises UserError for a method that does not fit the scene called `name`, the device or itself."""
    method, sampler = config.method, config.method.sampler
    if "times" in field.needs and not cameras.times_differ:
        raise UserError(
            f"{name}: the {method.field.otype} field of method {method.name} needs views of different times, "
            "and these have none; use a method for still scenes"
        )
    if torch.device(config.device).type == "cuda" and (reason := why_not_graph()):
        raise UserError(f"device cuda cannot be used: {reason}; use --device cpu")
    if field.companion() is not None and not isinstance(sampler, SamplerConfig):
        raise UserError(
            f"method {method.name}: its field has a coarse one that draws the samples; use sampler grid, "
            f"not {sampler.otype}"
        )
    if method.training.refine_cameras and isinstance(method.field, KiloNerfConfig):
        raise UserError(
            f"method {method.name}: training.refine_cameras is for its teacher; train that with it, then "
            "neurfield convert RUN --to kilonerf --output RUN2"
        )
    if isinstance(field, SurfaceField) and (reason := why_no_shape_loss(field, method, config.device)):
        raise UserError(f"method {method.name}: the {method.field.otype} field {reason}")


def _notes(
    field: RadianceModule, asked: RunConfig, config: RunConfig, norm: Normalization, cameras: Cameras
) -> list[str]:
    """What the user did not ask for and should know; `config` is what became of `asked`."""
    notes, behind = [], config.method.training.background
    if asked is not config and behind != "random":
        notes.append(
            f"the images are opaque and end in {behind}, which is taken for what is behind the "
            "object (--set training.background=random: it is part of it)"
        )
    if isinstance(field, SurfaceField) and field.reach is not None:
        x, y, z = (f"{value:.3g}" for value in norm.to_world(torch.full((3,), 0.5)).tolist())
        notes.append(
            f"looks for a surface within {field.reach / norm.scale:.3g} of ({x}, {y}, {z}); what is farther "
            "away has a density, as with other methods (field.reach)"
        )
    if cameras.times_differ and "times" not in field.needs:
        n_times = cameras.times.unique().numel()
        notes.append(f"the views are of {n_times} times, which method {config.method.name} learns as if nothing moved")
    return notes
