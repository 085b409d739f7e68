# SPDX-License-Identifier: Apache-2.0
"""Panoramas of a room that is known exactly: as photos to learn from, and as pictures of what photos have taught."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from torch import Tensor

from neurfield import metrics
from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cli.main import main
from neurfield.data.load import load_scene
from neurfield.run import Run, train
from tests.training.test_trainer import SMALL

HALF = torch.tensor([2.0, 1.6, 1.0])  # of the room, around the origin
WIDTH, HEIGHT = 96, 48
STEPS = 300
ROOM = (*SMALL, "training.n_samples=32768")  # with the 8192 of SMALL one seed in seven or so learns fog amid panoramas
NORM = {"scale": 0.22, "offset": [0.5, 0.5, 0.5]}


def room(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """sRGB `[n, 3]` of the walls, waves along x, y and z with a tint each, and how far away they are `[n]`."""
    to_wall = (HALF - origins * directions.sign()) / directions.abs().clamp_min(1e-9)
    distance, wall = to_wall.min(dim=1)
    point = origins + distance[:, None] * directions
    tint = torch.tensor([[1.0, 0.7, 0.6], [0.6, 1.0, 0.7], [0.7, 0.6, 1.0]])[wall]
    sign = torch.gather(directions, 1, wall[:, None]).sign()
    return tint * (0.55 + 0.3 * torch.sin(2.5 * point + sign)).clamp(0, 1), distance


def around(pose: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Rays of a panorama as nerfstudio writes them down, which is not how csrc/math/camera.h does."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    theta, phi = -2 * math.pi * (x / width - 0.5), math.pi * y / height
    local = torch.stack([-theta.sin() * phi.sin(), phi.cos(), -theta.cos() * phi.sin()], dim=-1).view(-1, 3)
    return pose[:, 3].expand_as(local), local @ pose[:, :3].T


def ahead(pose: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Rays of a square pinhole of a right angle."""
    y, x = torch.meshgrid(torch.arange(size) + 0.5, torch.arange(size) + 0.5, indexing="ij")
    local = torch.stack([x - size / 2, size / 2 - y, torch.full_like(x, -size / 2)], dim=-1).view(-1, 3)
    directions = torch.nn.functional.normalize(local, dim=1) @ pose[:, :3].T
    return pose[:, 3].expand_as(directions), directions


def poses(n: int) -> Tensor:
    """Around the middle of the room, looking everywhere and standing upright."""
    draw = torch.Generator().manual_seed(3)
    positions = (torch.rand(n, 3, generator=draw) - 0.5) * HALF
    targets = positions + torch.randn(n, 3, generator=draw)
    return torch.cat([paths.look_at(p[None], t) for p, t in zip(positions, targets, strict=True)])


def picture(rgb: Tensor, width: int) -> np.ndarray:
    return (rgb.view(-1, width, 3) * 255).round().to(torch.uint8).numpy()


def write(folder: Path, pictures: list[np.ndarray], c2w: Tensor, **lens: object) -> Path:
    (folder / "images").mkdir(parents=True)
    frames = []
    for i, (pixels, pose) in enumerate(zip(pictures, c2w, strict=True)):
        Image.fromarray(pixels).save(folder / "images" / f"{i:03d}.png")
        matrix = [*pose.tolist(), [0, 0, 0, 1]]
        frames.append({"file_path": f"images/{i:03d}.png", "transform_matrix": matrix})
    (folder / "transforms.json").write_text(json.dumps({**NORM, **lens, "frames": frames}))
    return folder


@pytest.fixture(scope="module")
def panoramas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of 16 panoramas, two of them for testing."""
    c2w = poses(16)
    pictures = [picture(room(*around(pose, WIDTH, HEIGHT))[0], WIDTH) for pose in c2w]
    return write(tmp_path_factory.mktemp("panoramas"), pictures, c2w, camera_model="EQUIRECTANGULAR")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same room in 64 ordinary photos."""
    c2w = poses(64)
    pictures = [picture(room(*ahead(pose, 32))[0], 32) for pose in c2w]
    return write(tmp_path_factory.mktemp("photos"), pictures, c2w, fl_x=16.0)


def trained(data: Path, **options: object) -> Run:
    return train(load_scene(data), "ngp-fast", overrides=ROOM, max_num_iterations=STEPS, **options)  # type: ignore[arg-type]


def psnr(rgb: Tensor, truth: Tensor) -> float:
    return metrics.psnr(rgb.float(), truth.view(rgb.shape))


def test_what_panoramas_teach(panoramas: Path, tmp_path: Path) -> None:
    """The room in its mean colour has 15 dB. An ordinary view is as good as a panorama, and the walls are where they
    are."""
    run = trained(panoramas)
    assert run.evaluate("test")["psnr"] > 27
    pose = poses(20)[17]
    flat = run.render(Cameras.pinhole(pose[None], 16.0, 32, 32), ("rgb",))["rgb"]
    assert psnr(flat, room(*ahead(pose, 32))[0]) > 25
    run.export_mesh(tmp_path / "room.ply", resolution=48, surface="seen")
    vertices = torch.from_numpy(trimesh.load(tmp_path / "room.ply", process=False).vertices).float()
    off = (HALF - vertices.abs()).abs().min(dim=1).values
    assert off.median() < 0.2 and len(vertices) > 1000  # two cells


def test_panoramas_of_what_photos_taught(photos: Path, tmp_path: Path) -> None:
    """In the files of the command: what is there is what the room looks like from there, row by row and at the ends."""
    run = trained(photos, output_dir=tmp_path)
    output = tmp_path / "views"
    words = ["render", str(run.path), "--output", str(output), "--panorama", "--outputs", "rgb", "depth", "normal"]
    assert main(words) == 0
    content = json.loads((output / "frames.json").read_text())
    assert content["depth"]["kind"].startswith("distance from the camera") and len(content["frames"]) == 8
    for frame in content["frames"]:
        assert (frame["camera_model"], frame["w"], frame["h"]) == ("equirectangular", 64, 32)
        pose = torch.tensor(frame["transform_matrix"])[:3]
        origins, directions = around(pose, 64, 32)
        color, distance = room(origins, directions)
        rgb = torch.from_numpy(np.asarray(Image.open(output / frame["files"]["rgb"])) / 255)
        assert psnr(rgb, color) > 24
        depth = torch.from_numpy(np.load(output / frame["files"]["depth"])).flatten()
        assert (depth / distance - 1).abs().median() < 0.12
        normal = torch.from_numpy(np.asarray(Image.open(output / frame["files"]["normal"])) / 127.5 - 1).view(-1, 3)
        inward = (normal * directions).sum(dim=1)
        assert (inward < 0).float().mean() > 0.9
        # half a row from a pole, all of its row is within three degrees; the ends are neighbours
        along = rgb.diff(dim=1).abs().mean()
        assert (rgb[[0, -1]].std(dim=1) < 0.06).all() and rgb[16].std(dim=0).max() > 0.06
        assert (rgb[:, 0] - rgb[:, -1]).abs().mean() < 2 * along


def test_a_pixel_of_several_rays_is_their_mean(photos: Path) -> None:
    run = trained(photos)
    pose = poses(20)[17][None]
    fine = run.render(Cameras.panorama(pose, 128, 64), ("rgb",))["rgb"]
    run.renderer.rays_per_pixel = 4
    coarse = run.render(Cameras.panorama(pose, 64, 32), ("rgb",))["rgb"]
    mean = fine.view(32, 2, 64, 2, 3).mean(dim=(1, 3))
    torch.testing.assert_close(coarse, mean, atol=2e-3, rtol=0)
