# SPDX-License-Identifier: Apache-2.0
"""Rendering against an exact picture: a ball of high density, in any frame of the world."""

import pytest
import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.errors import UserError
from neurfield.fields.outward import outward
from neurfield.fields.radiance_module import density_of
from neurfield.rendering import renderer as renderer_module
from neurfield.rendering import volume
from neurfield.rendering.renderer import OUTPUTS, Renderer, image_rays
from neurfield.rendering.volume import NORMAL_REACH, MarchOptions, march_rays, render_normals, sample_positions
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


class Soft(Ball):
    """A ball without a border: half as dense each 3.5e-3 farther out; 1/e of the light comes as far as RADIUS."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        radius = (x - 0.5).norm(dim=1) / NORM.scale
        return 200 / NORM.scale * torch.exp(((RADIUS - radius) * 200).clamp(max=60)), x


def test_normals_point_out_of_the_surface(camera):
    expected = torch.nn.functional.normalize(2 * ball_picture(camera).float()[..., :3] / 255 - 1, dim=-1)
    solid = inside(camera)
    normal = Renderer(Soft(), OccupancyGrid(), NORM).render(camera, ("normal",))["normal"]
    # 8-bit rounding turns the expected normal by at most sqrt(3) / 255 = 0.007. Light ends on average 0.577 / 200 above
    # RADIUS and, crossing it at 60 degrees at most, ln 2 / 200 more, which is 1.73 times that aside, and its sample is
    # up to a step of 5e-3 off: 0.016 / RADIUS. Corners at a distance d turn it by d / (3 RADIUS): a ball is no plane
    bound = 0.007 + (0.016 + NORMAL_REACH / NORM.scale / 3) / RADIUS
    assert ((normal * expected).sum(-1)[solid] > 1 - 0.5 * bound**2).all()
    assert torch.equal(normal[0, 0], torch.zeros(3))


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
def test_normals_are_means_of_what_is_outward_at_all_samples(camera, small_run, kind, monkeypatch):
    monkeypatch.setattr(volume, "LEAST_WEIGHT", 0.0)
    field = {"ball": Ball(), "fog": Fog(), "trained": small_run.task.field}[kind]
    grid = small_run.task.grid if kind == "trained" else OccupancyGrid()
    options = MarchOptions(stop_transmittance=0.0)
    rays = image_rays(camera.transformed(NORM.scale, torch.tensor(NORM.offset)), 10, 30)
    samples = march_rays(grid, *rays, options)
    x, _ = sample_positions(samples, *rays)
    density, packed = density_of(field), (samples.t_starts, samples.t_ends, samples.packed_info)
    with torch.no_grad():
        out = outward(density, x, torch.full((len(x),), NORMAL_REACH))
        mean = ops.composite(density(x), out, *packed, early_stop_eps=0.0)
    expected = torch.nn.functional.normalize(mean.rgb, dim=1) * mean.acc[:, None]
    normals = render_normals(field, samples, *rays, options)
    # a mean may be short; its roundings are of terms as long as the longest
    told = mean.rgb.norm(dim=1) > 1e-3 * out.norm(dim=1).max()
    assert told.sum() > 300 and (normals - expected)[told].norm(dim=1).max() < 1e-3
    assert torch.allclose(normals.norm(dim=1)[told], mean.acc[told], atol=1e-5)


def test_few_samples_are_asked_for_normals(camera):
    rays = image_rays(camera.transformed(NORM.scale, torch.tensor(NORM.offset)), 10, 30)
    samples = march_rays(OccupancyGrid(), *rays, MarchOptions())
    asked = []

    class Counting(Ball):
        def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
            asked.append(len(x))
            return super().density(x)

    opaque = ball_picture(camera)[10:30, ..., 3].flatten() > 0
    behind = samples._replace(packed_info=samples.packed_info * opaque[:, None])  # of rays that end
    normals = render_normals(Counting(), behind, *rays, MarchOptions())
    # what is behind the middle of the ball is nearly half of each ray; four densities beside those of the samples would
    # make 5 of them
    assert (normals.norm(dim=1)[opaque] > 0.5).float().mean() > 0.9
    assert sum(asked) < 0.7 * int(behind.packed_info[:, 1].sum())


class Rough(Ball):
    """The ball with ripples in its density, up to 7 times, finer than normals are asked over, as noise of a grid is."""

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().density(x)[0] * torch.exp(2 * torch.sin(9e3 * x).prod(dim=1)), x


def test_normals_of_a_rough_ball_are_the_balls(camera):
    solid = inside(camera)
    expected = torch.nn.functional.normalize(2 * ball_picture(camera).float()[..., :3] / 255 - 1, dim=-1)[solid]
    normals = Renderer(Rough(), OccupancyGrid(), NORM).render(camera, ("normal",))["normal"][solid]
    angle = torch.rad2deg((normals * expected).sum(1).clamp(-1, 1).arccos())
    at = (0.5 + RADIUS * NORM.scale * expected).requires_grad_(True)
    (gradient,) = torch.autograd.grad(Rough().density(at)[0].sum(), at)
    derived = -(torch.nn.functional.normalize(gradient, dim=1) * expected).sum(1).clamp(-1, 1)
    assert torch.rad2deg(derived.arccos()).mean() > 45  # the derivative knows the ripples alone
    assert angle.mean() < 10


def test_outward_is_asked_over_a_step_at_least_and_of_the_field_that_knows(camera):
    asked = []

    class Knowing(Ball):
        def outward(self, x: Tensor, reach: Tensor) -> Tensor:
            asked.append(reach)
            return torch.tensor([0.0, 0.6, 0.8]).expand(len(x), 3)

    distance, radius = float(camera.c2w[0, :, 3].norm()) * NORM.scale, RADIUS * NORM.scale
    for cone_angle in (0.0, 1 / 64):
        asked.clear()
        options = MarchOptions(cone_angle=cone_angle)
        normals = Renderer(Knowing(), OccupancyGrid(), NORM, options).render(camera, ("normal",))["normal"]
        torch.testing.assert_close(normals[20, 24], torch.tensor([0.0, 0.6, 0.8]), rtol=0.0, atol=1e-3)
        reach = torch.cat(asked)
        if not cone_angle:
            assert (reach == NORMAL_REACH).all()
        else:  # steps there are 1/64 of the way, which ends at the ball or a step later
            assert (reach * 64 > distance - radius - 0.01).all()
            assert (reach * 64 < (distance + 0.01) * 65 / 64).all()


def test_normals_lie_where_the_rays_lie(camera):
    """What would be made on the default device cannot meet the rays."""
    rays = image_rays(camera.transformed(NORM.scale, torch.tensor(NORM.offset)), 18, 22)
    samples = march_rays(OccupancyGrid(), *rays, MarchOptions())
    here = render_normals(Fog(), samples, *rays, MarchOptions())
    with torch.device("meta"):
        assert torch.equal(render_normals(Fog(), samples, *rays, MarchOptions()), here)


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
    with pytest.raises(ValueError, match=r"expected one view, .* got 2"):
        renderer.render(camera[[0, 0]])
