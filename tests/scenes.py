# SPDX-License-Identifier: Apache-2.0
"""A scene with an exact picture, small enough to train in a test."""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization, Scene
from neurfield.training.method import RunConfig
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.trainer import Trainer

RADIUS = 0.8


def orbit(n: int, distance: float = 3.0) -> Tensor:
    """Poses `[n, 3, 4]` around the origin, looking at it, +Z up."""
    poses = []
    for i in range(n):
        azimuth, height = 2 * math.pi * i / n, math.sin(2.4 * i) * 0.8
        back = torch.tensor([math.cos(azimuth), math.sin(azimuth), height])
        back = back / back.norm()
        right = torch.linalg.cross(torch.tensor([0.0, 0.0, 1.0]), back)
        right = right / right.norm()
        poses.append(torch.stack([right, torch.linalg.cross(back, right), back, back * distance], dim=1))
    return torch.stack(poses)


def ball_picture(camera: Cameras, middle: Sequence[float] = (0.0, 0.0, 0.0), radius: float = RADIUS) -> Tensor:
    """RGBA uint8 `[h, w, 4]` of a ball, coloured by its normal."""
    width, height = camera.sizes[0].tolist()
    fl_x, fl_y, cx, cy = camera.intrinsics[0].tolist()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    local = torch.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -torch.ones_like(x)], dim=-1)
    d = torch.nn.functional.normalize(local @ camera.c2w[0, :, :3].T, dim=-1)
    o = camera.c2w[0, :, 3] - torch.tensor(middle)
    b = d @ o
    discriminant = b * b - o @ o + radius**2
    t = -b - discriminant.clamp_min(0).sqrt()
    normal = (o + t[..., None] * d) / radius
    rgba = torch.cat([0.5 + 0.5 * normal, torch.ones_like(t)[..., None]], dim=-1)
    rgba[discriminant < 0] = 0
    return (rgba * 255).round().to(torch.uint8)


def ball_depth(camera: Cameras) -> Tensor:
    """float32 `[h, w]` of the ball in the middle along the optical axis, 0 beside it."""
    width, height = camera.sizes[0].tolist()
    fl_x, fl_y, cx, cy = camera.intrinsics[0].tolist()
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    d = torch.stack([(x - cx) / fl_x, -(y - cy) / fl_y, -torch.ones_like(x)], dim=-1) @ camera.c2w[0, :, :3].T
    o = camera.c2w[0, :, 3]
    a, b, c = (d * d).sum(-1), d @ o, o @ o - RADIUS**2  # |o + z d| = RADIUS
    z = (-b - (b * b - a * c).clamp_min(0).sqrt()) / a
    return z.where(b * b > a * c, 0.0)


def ball_scene(n_train: int = 24, n_test: int = 2, size: int = 32, alpha: bool = True) -> Scene:
    """Views of the ball; without alpha it stands before black."""
    cameras = Cameras.pinhole(orbit(n_train + n_test), focal=1.4 * size, width=size, height=size)
    images = [ball_picture(cameras[i]) for i in range(len(cameras))]
    if not alpha:
        images = [image[..., :3].contiguous() for image in images]
    splits = {"train": list(range(n_train)), "val": [], "test": list(range(n_train, n_train + n_test))}
    normalization = Normalization(0.33, (0.5, 0.5, 0.5), 1, "synthetic")
    return Scene("ball", cameras, images, splits, normalization, paths=[f"view_{i}" for i in range(len(images))])


MOVING_RADIUS = 0.5


def moving_middle(time: float) -> tuple[float, float, float]:
    """Of the ball of `moving_scene`: it goes along x."""
    return (1.4 * (time - 0.5), 0.0, 0.0)


def moving_scene(n_train: int = 24, n_test: int = 2, size: int = 32) -> Scene:
    """Views of a ball that moves, each of another time; those for testing lie between those for training."""
    scene = ball_scene(n_train, n_test, size)
    # neighbours in time are far apart around the ball, as if by chance
    order = torch.arange(n_train) * 7 % n_train
    times = torch.cat([order / max(n_train - 1, 1), (torch.arange(n_test) + 1) / (n_test + 1)])
    cameras = replace(scene.cameras, times=times.float())
    images = [
        ball_picture(cameras[i], moving_middle(float(cameras.times[i])), MOVING_RADIUS) for i in range(len(cameras))
    ]
    return replace(scene, name="moving", cameras=cameras, images=images)


def write_synthetic(scene: Scene, folder: Path) -> Path:
    """Writes a scene in the layout of the NeRF-synthetic data; returns the folder."""
    for split, views in scene.splits.items():
        if not views:
            continue
        (folder / split).mkdir(parents=True)
        frames = []
        for number, view in enumerate(views):
            Image.fromarray(scene.images[view].numpy()).save(folder / split / f"r_{number}.png")
            pose = torch.cat([scene.cameras.c2w[view], torch.tensor([[0.0, 0, 0, 1]])]).tolist()
            frames.append({"file_path": f"./{split}/r_{number}", "transform_matrix": pose, **_time(scene, view)})
        width, focal = int(scene.cameras.sizes[0, 0]), float(scene.cameras.intrinsics[0, 0])
        content = {"camera_angle_x": 2 * math.atan(width / 2 / focal), "frames": frames}
        (folder / f"transforms_{split}.json").write_text(json.dumps(content))
    return folder


def _time(scene: Scene, view: int) -> dict[str, float]:
    return {"time": float(scene.cameras.times[view])} if scene.cameras.times_differ else {}


def write_transforms(scene: Scene, folder: Path) -> Path:
    """Writes a scene as images and one transforms.json that names its splits and its map into unit space."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for view, image in enumerate(scene.images):
        Image.fromarray(image.numpy()).save(folder / "images" / f"{view:03d}.png")
        pose = torch.cat([scene.cameras.c2w[view], torch.tensor([[0.0, 0, 0, 1]])]).tolist()
        frames.append({"file_path": f"images/{view:03d}.png", "transform_matrix": pose, **_time(scene, view)})
    lens = dict(zip(("fl_x", "fl_y", "cx", "cy"), scene.cameras.intrinsics[0].tolist(), strict=True))
    splits = {f"{split}_filenames": [frames[i]["file_path"] for i in views] for split, views in scene.splits.items()}
    norm = scene.normalization
    content = {**lens, **splits, "scale": norm.scale, "offset": norm.offset, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


def radiance_trainer(scene: Scene, config: RunConfig, **options: object) -> Trainer:
    """A trainer of a radiance field of `scene`."""
    task = RadianceTask(scene, config)
    return Trainer(task, task.config, **options)
