# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest
import torch

from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.sampling.pixels import PixelSampler


def test_sampler_draws_the_colours_of_its_images() -> None:
    cameras = Cameras.pinhole(torch.eye(4).expand(2, 4, 4), 20.0, 16, 12)
    images = [torch.full((12, 16, 3), value, dtype=torch.uint8) for value in (51, 102)]
    origins, directions, targets, _ = PixelSampler(images, cameras).sample(100, step=0)
    assert origins.shape == directions.shape == (100, 3)
    assert set(targets[:, 0].tolist()) == {torch.tensor(v / 255).item() for v in (51, 102)}
    assert (targets[:, 3] == 1).all()


def test_images_of_different_channels_are_brought_together() -> None:
    cameras = Cameras.pinhole(torch.eye(4).expand(3, 4, 4), 20.0, 8, 8)
    grey, rgb, rgba = (torch.full((8, 8, n), 10 * n, dtype=torch.uint8) for n in (1, 3, 4))
    targets = PixelSampler([grey[:, :, 0], rgb, rgba], cameras).sample(300, step=0)[2] * 255
    assert {tuple(row) for row in targets.round().int().tolist()} == {
        (10, 10, 10, 255), (30, 30, 30, 255), (40, 40, 40, 40),
    }  # fmt: skip


def test_masks_restrict_blocks() -> None:
    cameras = Cameras.pinhole(torch.eye(4).expand(2, 4, 4), 20.0, 20, 20)
    image = torch.zeros(20, 20, 3, dtype=torch.uint8)
    mask = torch.zeros(20, 20, dtype=torch.uint8)
    mask[17:, :3] = 1
    image[17:, :3] = 255
    sampler = PixelSampler([image, torch.full_like(image, 255)], cameras, masks=[mask, None])
    assert sampler.n_blocks == 1 + 9
    assert (sampler.sample(2000, step=1)[2] == 1).all()


def test_what_does_not_fit_is_refused() -> None:
    cameras = Cameras.pinhole(torch.eye(4).expand(2, 4, 4), 20.0, 16, 12)
    image = torch.zeros(12, 16, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match="expected one image per camera, got 1 and 2 cameras"):
        PixelSampler([image], cameras)
    with pytest.raises(ValueError, match=r"image 1 must have the size of its camera \[16, 12\], got \[12, 16\]"):
        PixelSampler([image, image.transpose(0, 1)], cameras)
    with pytest.raises(ValueError, match=r"mask 0 must be uint8 \[12, 16\], got bool \[12, 16\]"):
        PixelSampler([image, image], cameras, masks=[image[:, :, 0].bool(), None])
    with pytest.raises(ValueError, match=r"depth 1 must be float32 \[12, 16\], got uint8 \[12, 16\]"):
        PixelSampler([image, image], cameras, depths=[None, image[:, :, 0]])
    with pytest.raises(ValueError, match="the masks leave no pixel to draw"):
        PixelSampler([image, image], cameras, masks=[image[:, :, 0]] * 2)


def z_depths(cameras: Cameras, view: int, size: int) -> torch.Tensor:
    """Of the plane z = -2, along the optical axis of a camera."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    local = torch.stack([(x - size / 2) / 20, (size / 2 - y) / 20, -torch.ones_like(x)], dim=-1)  # z-depth 1
    rays, origin = local @ cameras.c2w[view, :, :3].T, cameras.c2w[view, :, 3]
    return (-2 - origin[2]) / rays[..., 2]


@pytest.mark.parametrize("rays_per_pixel", [1, 4])
def test_distances_are_those_along_the_rays(rays_per_pixel: int) -> None:
    """Depth is along the optical axis: the points of all rays lie on the plane, those within a pixel nearly."""
    turn = math.radians(25)
    c2w = torch.eye(4).repeat(3, 1, 1)
    c2w[1, :3, :3] = torch.tensor([
        [math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]
    ])  # fmt: skip
    c2w[1, :3, 3] = torch.tensor([0.3, -0.2, 0.5])
    cameras = Cameras.pinhole(c2w, 20.0, 16, 16)
    depth = z_depths(cameras, 1, 16)
    depth[3] = 0
    sampler = PixelSampler([torch.zeros(16, 16, 3, dtype=torch.uint8)] * 3, cameras, depths=[None, depth, None])
    drawn = sampler.sample(500, 1, rays_per_pixel=rays_per_pixel)
    distances = sampler.distances(drawn)
    assert distances is not None and distances.shape == (500 * rays_per_pixel,)
    known = ((drawn.picks[:, 0] == 1) & (drawn.picks[:, 2] != 3)).repeat_interleave(rays_per_pixel)
    assert torch.equal(distances > 0, known) and 100 < known.sum() < 200 * rays_per_pixel
    hit = (drawn.origins + distances[:, None] * drawn.directions)[known]
    assert (hit[:, 2] + 2).abs().max() < (1e-5 if rays_per_pixel == 1 else 0.03)
    only = sampler.of_view(1)
    drawn = only.sample(50, 1)
    assert torch.equal(only.distances(drawn) > 0, drawn.picks[:, 2] != 3)
    assert PixelSampler([torch.zeros(16, 16, 3, dtype=torch.uint8)] * 3, cameras).distances(drawn) is None


def test_the_depth_of_a_panorama_is_along_the_ray() -> None:
    cameras = Cameras.panorama(torch.eye(4)[None, :3], 16, 8)
    sampler = PixelSampler([torch.zeros(8, 16, 3, dtype=torch.uint8)], cameras, depths=[torch.full((8, 16), 3.0)])
    assert torch.equal(sampler.distances(sampler.sample(64, 0)), torch.full((64,), 3.0))


def test_a_fisheye_knows_no_distance_beside_and_behind_itself() -> None:
    """Equidistant, 11.9 pixels per radian: of 48 x 1 pixels those to 90 degrees from the axis."""
    camera = Cameras.pinhole(torch.eye(4)[None], 11.9, 48, 1)
    camera = replace(camera, models=torch.full_like(camera.models, CAMERA_MODELS.index("opencv_fisheye")))
    sampler = PixelSampler([torch.zeros(1, 48, 3, dtype=torch.uint8)], camera, depths=[torch.ones(1, 48)])
    drawn = sampler.sample(500, 0)
    distances = sampler.distances(drawn)
    angle = (drawn.picks[:, 1] - 23.5).abs() / 11.9
    assert torch.equal(distances > 0, angle < math.pi / 2) and 50 < (distances == 0).sum() < 250
    ahead = angle < 1.4
    assert torch.allclose(distances[ahead], 1 / angle[ahead].cos(), rtol=1e-4)


def test_silhouettes_are_widened_within_their_own_image() -> None:
    cameras = Cameras.pinhole(torch.eye(4).expand(2, 4, 4), 20.0, 20, 10)
    images = [torch.zeros(10, 20, 4, dtype=torch.uint8) for _ in range(2)]
    images[0][9, 4, 3] = 255  # of the last row
    wide = PixelSampler(images, cameras).silhouettes(0.1).view(2, 10, 20)
    assert wide[0, 7:, 2:7].all() and wide.sum() == 15
