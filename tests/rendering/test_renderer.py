# SPDX-License-Identifier: Apache-2.0
"""Rendering against an exact picture: a ball of high density, in any frame of the world."""

import copy

import pytest
import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.errors import UserError
from neurfield.rendering import renderer as renderer_module
from neurfield.rendering.renderer import OUTPUTS, Renderer, image_rays
from neurfield.rendering.volume import NORMAL_ERROR, MarchOptions, march_rays, render_normals, sample_positions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.trainer import Trainer
from tests.scenes import RADIUS, ball_picture, ball_scene, orbit, radiance_trainer
from tests.training.test_trainer import small_config

NORM = Normalization(0.33, (0.5, 0.5, 0.5))


class Ball(nn.Module):
    """Opaque ball of world radius RADIUS around the world's origin, coloured by its normal; steep but smooth border."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        radius = (x - 0.5).norm(dim=1) / NORM.scale
        return 3e4 * torch.sigmoid((RADIUS - radius) * 600), x

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.density(x)[0], 0.5 + 0.5 * torch.nn.functional.normalize(x - 0.5, dim=1)


@pytest.fixture(scope="module")
def camera() -> Cameras:
    return Cameras.pinhole(orbit(5)[2:3], focal=70, width=48, height=40)


@pytest.fixture(scope="module")
def result(camera) -> dict[str, Tensor]:
    return Renderer(Ball(), OccupancyGrid(), NORM).render(camera, tuple(OUTPUTS))


def inside(camera: Cameras, margin: int = 2) -> Tensor:
    """Pixels at least `margin` inside of the ball's outline."""
    solid = (ball_picture(camera)[..., 3] > 0).float()[None, None]
    return -torch.nn.functional.max_pool2d(-solid, 2 * margin + 1, 1, margin)[0, 0] > 0


def test_colour_and_opacity_are_the_balls(camera, result):
    picture = ball_picture(camera).float() / 255
    solid = inside(camera)
    assert solid.sum() > 300
    assert result["rgb"].shape == (40, 48, 3) and result["accumulation"].shape == (40, 48)
    assert (result["accumulation"][solid] > 0.999).all()
    # a step is 5e-3 in the world and the colour changes by 0.5 per radius
    assert (result["rgb"] - picture[..., :3])[solid].abs().max() < 0.02
    corner = result["rgb"][0, 0], result["accumulation"][0, 0], result["depth"][0, 0]
    assert torch.equal(corner[0], torch.ones(3)) and corner[1] == 0 and corner[2] == 0


def test_depth_is_the_distance_along_the_ray_in_world_units(camera, result):
    centre = result["depth"][20, 24]
    assert abs(float(centre) - (float(camera.c2w[0, :, 3].norm()) - RADIUS)) < 0.01  # two steps


def test_normals_point_out_of_the_surface(camera, result):
    expected = torch.nn.functional.normalize(2 * ball_picture(camera).float()[..., :3] / 255 - 1, dim=-1)
    solid = inside(camera)
    # 8-bit rounding turns the expected normal by at most sqrt(3) / 255 = 0.007; the hit moves along the ray by a step
    # of 5e-3 and by the way through the soft border, 4e-3 thick and crossed at 60 degrees at most: 0.013 / RADIUS
    assert ((result["normal"] * expected).sum(-1)[solid] > 1 - 0.5 * 0.024**2).all()
    assert torch.equal(result["normal"][0, 0], torch.zeros(3))


def test_a_pixel_of_four_rays_is_the_mean_of_a_picture_of_twice_the_size(camera):
    fine = Renderer(Ball(), OccupancyGrid(), NORM).render(camera.resized(2), ("rgb", "accumulation", "normal"))
    four = Renderer(Ball(), OccupancyGrid(), NORM, rays_per_pixel=4)
    got = four.render(camera, ("rgb", "accumulation", "normal", "depth"))
    assert four.rays_per_pixel == 4
    for name, value in fine.items():
        means = value.view(40, 2, 48, 2, -1).mean(dim=(1, 3)).view(got[name].shape)
        # the same rays up to the rounding of pixel coordinates, which the ball's steep border magnifies
        assert (got[name] - means).abs().max() < 1e-3, name
    border = (got["accumulation"] > 0.1) & (got["accumulation"] < 0.9)
    assert border.sum() > 20  # partly covered pixels
    distances = camera.c2w[0, :, 3].norm() - RADIUS
    assert (got["depth"][border] > distances - 0.01).all()  # of what is hit, not diluted by what is not


class Fog(Ball):
    """Thin everywhere: hundreds of samples of a thousandth each decide a pixel."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return 0.6 + 0.3 * torch.sin(9 * x).prod(dim=1), x


@pytest.fixture(scope="module")
def small_run() -> Trainer:
    trainer = radiance_trainer(ball_scene(size=16), small_config(steps=40))
    trainer.train()
    return trainer


@pytest.mark.parametrize("kind", ["ball", "fog", "trained"])
def test_normals_of_visible_samples_alone_are_those_of_all(camera, small_run, kind):
    field = {"ball": Ball(), "fog": Fog(), "trained": copy.deepcopy(small_run.task.field)}[kind]
    grid, options = small_run.task.grid if kind == "trained" else OccupancyGrid(), MarchOptions.for_box(1)
    rays = image_rays(camera.transformed(NORM.scale, torch.tensor(NORM.offset)), 10, 30)
    samples = march_rays(grid, *rays, options)
    x, _ = sample_positions(samples, *rays)
    x.requires_grad_(True)
    sigmas, _ = field.density(x)
    (gradient,) = torch.autograd.grad(sigmas.sum(), x)
    all_normals = -torch.nn.functional.normalize(gradient, dim=1)
    packed = samples.t_starts, samples.t_ends, samples.packed_info
    expected = ops.composite(sigmas.detach(), all_normals, *packed, early_stop_eps=options.stop_transmittance).rgb
    asked = count_gradients(field)
    normals = render_normals(field, samples, *rays, options)
    assert (normals - expected).norm(dim=1).max() < NORMAL_ERROR + 1e-5  # and the rounding of a thousand terms
    assert expected.norm(dim=1).max() > 0.1
    assert len(asked) == 1 and (asked[0] < 0.2 * len(x) or kind != "ball")


def count_gradients(field: nn.Module) -> list[int]:
    """Filled with the number of positions of each later call that wants gradients."""
    whole, asked = field.density, []

    def density(x: Tensor) -> tuple[Tensor, Tensor]:
        if x.requires_grad:
            asked.append(len(x))
        return whole(x)

    field.density = density
    return asked


def test_rays_that_meet_nothing_have_no_normals(small_run):
    ray = torch.tensor([[5.0, 5.0, 5.0]]), torch.tensor([[0.0, 0.0, 1.0]])
    result = Renderer(small_run.task.field, small_run.task.grid, NORM).render_rays(*ray, ("normal",))
    assert torch.equal(result["normal"], torch.zeros(1, 3))


def test_tiles_do_not_show(camera, result, monkeypatch):
    monkeypatch.setattr(renderer_module, "_TILE_RAYS", 100)
    fractions = []
    again = Renderer(Ball(), OccupancyGrid(), NORM).render(camera, ("rgb", "depth"), fractions.append)
    assert torch.equal(again["rgb"], result["rgb"]) and torch.equal(again["depth"], result["depth"])
    assert len(fractions) == 20 and fractions[-1] == 1


def test_small_tiles_are_asked_for_and_may_end_the_picture(camera, result):
    fractions = []
    renderer = Renderer(Ball(), OccupancyGrid(), NORM)
    again = renderer.render(camera, ("rgb",), fractions.append, tile_rays=1)  # a row at least
    assert torch.equal(again["rgb"], result["rgb"]) and len(fractions) == 40

    class Enough(Exception):
        pass

    def stop(part: float) -> None:
        raise Enough

    with pytest.raises(Enough):
        renderer.render(camera, ("rgb",), stop, tile_rays=100)


def test_outputs_lie_where_they_are_asked_for(camera, result):
    renderer = Renderer(Ball(), OccupancyGrid(), NORM)
    away = renderer.render(camera, ("rgb", "depth"), device="meta")
    assert {value.device.type for value in away.values()} == {"meta"}
    stays = renderer.render(camera, ("rgb",), device=None)
    assert torch.equal(stays["rgb"], result["rgb"])


def test_occupancy_shows_the_first_cell(camera):
    """Cells of the ball only: where a ray meets none, the background; colours tell the cell's place."""
    grid = OccupancyGrid(resolution=32).cropped(lambda x: (x - 0.5).norm(dim=1) < RADIUS * NORM.scale)
    result = Renderer(Ball(), grid, NORM).render(camera, ("occupancy", "samples"))
    assert torch.equal(result["occupancy"][0, 0], torch.ones(3)) and result["samples"][0, 0] == 0
    solid = inside(camera)
    assert (result["samples"][solid] > 0).all()
    assert result["samples"].max() == result["samples"][20, 24] or result["samples"][20, 24] > 100
    # place is 0.25 + 0.7 of the cell's middle, times 0.8 in every other cell
    _, directions = image_rays(camera.transformed(NORM.scale, torch.tensor(NORM.offset)), 20, 21)
    back = -directions[24]
    surface = 0.5 + back * RADIUS * NORM.scale
    color = result["occupancy"][20, 24]
    # two cells: one that the ray enters at an edge, one that its middle is off
    assert min((color / shade - (0.25 + 0.7 * surface)).abs().max() for shade in (1.0, 0.8)) < 0.7 * 2 / 32


def test_the_world_may_be_moved_and_scaled(camera, result):
    moved = Normalization(NORM.scale / 10, (0.5 - NORM.scale * 2, 0.5, 0.5))
    c2w = camera.c2w.clone()
    c2w[:, :, 3] = c2w[:, :, 3] * 10 + torch.tensor([20.0, 0, 0])
    other = Cameras.pinhole(c2w, focal=70, width=48, height=40)
    again = Renderer(Ball(), OccupancyGrid(), moved).render(other)
    solid = inside(camera)
    assert (again["rgb"] - result["rgb"])[solid].abs().max() < 0.02
    assert (again["depth"] / 10 - result["depth"])[solid].abs().max() < 0.01


def test_the_background_shows_through(camera):
    got = Renderer(Ball(), OccupancyGrid(), NORM, background=(0.25, 0.5, 0.75)).render(camera)["rgb"]
    assert torch.equal(got[0, 0], torch.tensor([0.25, 0.5, 0.75]))


def test_larger_boxes_grow_their_steps():
    assert MarchOptions.for_box(1).cone_angle == 0
    assert MarchOptions.for_box(4, 1.5) == MarchOptions(step_scale=1.5, cone_angle=1 / 256)


def test_wrong_requests_are_named(camera):
    renderer = Renderer(Ball(), OccupancyGrid(), NORM)
    with pytest.raises(UserError, match="unknown output 'normals', did you mean 'normal'"):
        renderer.render(camera, ("rgb", "normals"))
    with pytest.raises(ValueError, match="expected one view, got 2"):
        renderer.render(camera[[0, 0]])
