# SPDX-License-Identifier: Apache-2.0
"""KiloNeRF beside its teacher and the original NeRF: quality, time of a frame, memory.

    python -m benchmarks.scenes.bench_kilonerf --teacher RUN --student RUN [--hash-field RUN] [--data DATA]
        [--size 800] [--name lego] [--views 25] [--picture FILE] [--device cpu]

Frames of SIZE x SIZE pixels of the first test view, one ray a pixel for all; quality is that of as many rays a
pixel, for all of them, as the method of any of them has. A hash field is measured besides where the teacher is none, or
another one. The original NeRF is measured twice: as
published, 64 coarse and 192 fine samples on every ray, and with skipping of empty space and early termination, through
the student's own occupancy grid and with its march. Training one until its surfaces are as sharp as the student's takes
days on a CPU, and one that is less sharp ends its rays later, which would flatter the student. So the densities and
colours of the second are the student's, and the network of the original NeRF is evaluated for each of the same samples
besides; what the student took is subtracted. The time of the first does not depend on what was learned.
Both are measured on a regular subset of the pixels (`pixels` in the notes) and scaled to the frame; its networks are
evaluated in float32.
results/kilonerf_NAME.json holds the figures; FILE shows the photo, the teacher, the student
and the hash field side by side.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from benchmarks.harness import Row, report, summarise
from neurfield import load_scene
from neurfield.cameras.cameras import Cameras
from neurfield.fields.nerf import NerfConfig
from neurfield.rendering.color import over_background
from neurfield.rendering.hierarchical import render_hierarchical
from neurfield.rendering.renderer import Renderer, image_rays
from neurfield.rendering.volume import Field
from neurfield.run import Run, load
from neurfield.training.evaluation import evaluate


def resized(camera: Cameras, size: int) -> Cameras:
    """The same view with `size` pixels along its width."""
    factor = size / int(camera.sizes[0, 0])
    sizes = (camera.sizes * factor).round().to(camera.sizes.dtype)
    return dataclasses.replace(camera, intrinsics=camera.intrinsics * factor, sizes=sizes)


def frame_rays(run: Run, camera: Cameras, stride: int) -> tuple[Tensor, Tensor]:
    """Every `stride`-th ray along both axes of the view, in unit space."""
    norm = run.views.normalization
    width, height = camera.sizes[0].tolist()
    rays = image_rays(camera.transformed(norm.scale, torch.tensor(norm.offset)), 0, height)
    on_image = (r.view(height, width, 3)[::stride, ::stride].reshape(-1, 3).contiguous() for r in rays)
    origins, directions = (r.to(run.grid.bitfield.device) for r in on_image)
    return origins, directions


# of the pixels that the original NeRF is measured on, as published and with skipping: enough to keep the device busy
STRIDES = {"cpu": (32, 4), "cuda": (4, 2)}


def seconds_of(fn: Callable[[], object], repetitions: int) -> list[float]:
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    fn()
    times = []
    for _ in range(repetitions):
        wait()
        start = time.perf_counter()
        fn()
        wait()
        times.append(time.perf_counter() - start)
    return times


def megabytes(field: nn.Module) -> float:
    return sum(p.numel() * p.element_size() for p in field.parameters()) / 1e6


class AsWell:
    """A field whose answers are those of `field`, while `network` is evaluated at the same places."""

    def __init__(self, field: Field, network: Field | None = None):
        self.field, self.network = field, network

    def density(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if self.network is not None:
            self.network.density(x)
        return self.field.density(x)

    def __call__(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        if self.network is not None:
            self.network(x, directions)
        return self.field(x, directions)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("teacher", "student"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--hash-field", type=Path)
    parser.add_argument("--data")
    parser.add_argument("--size", type=int, default=800)
    parser.add_argument("--name", default="scene")
    parser.add_argument("--views", type=int, default=25)
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    options = parser.parse_args()
    paths = {"teacher": options.teacher, "student": options.student, "hash field": options.hash_field}
    runs = {name: load(path) for name, path in paths.items() if path}
    for run in runs.values():
        run.to(options.device)
    teacher, student = runs["teacher"], runs["student"]
    norm = student.views.normalization
    nerf = NerfConfig().build(norm.aabb).to(options.device)
    every, skipping = STRIDES[options.device]
    scene = load_scene(options.data or teacher.config.data, teacher.config.load, splits=("test",))
    scene.splits["test"] = scene.splits["test"][: options.views]
    camera = resized(scene.cameras[scene.views("test")[0]], options.size)
    n_pixels = options.size * int(camera.sizes[0, 1])

    rays_per_pixel = max(run.renderer.rays_per_pixel for run in runs.values())
    for run in runs.values():
        run.renderer.rays_per_pixel = 1
    frames: dict[str, tuple[list[float], str]] = {}
    with torch.no_grad():
        for name, run in runs.items():
            frames[name] = (seconds_of(lambda run=run: run.render(camera, ("rgb",)), 5), "whole frame")
        # the student's share goes the same way, composed of operators, so that it can be subtracted
        both = Renderer(AsWell(student.field, nerf), student.grid, norm, student.renderer.options)
        alone = Renderer(AsWell(student.field), student.grid, norm, student.renderer.options)
        for name, stride, fn, besides in (
            (
                "nerf, skipping and termination",
                skipping,
                lambda *rays: both.render_rays(*rays, ("rgb",)),
                lambda *rays: alone.render_rays(*rays, ("rgb",)),
            ),
            ("nerf, 64 + 192 samples a ray", every, lambda *rays: render_hierarchical(nerf, nerf, *rays), None),
        ):
            rays = frame_rays(student, camera, stride)
            scale = n_pixels / len(rays[0])
            own_share = summarise(seconds_of(lambda fn=besides, rays=rays: fn(*rays), 3)).median if besides else 0.0
            times = [scale * (t - own_share) for t in seconds_of(lambda fn=fn, rays=rays: fn(*rays), 3)]
            frames[name] = (times, f"{len(rays[0])} pixels, scaled by {scale:.0f}")

    own = summarise(frames["student"][0]).median
    rows = []
    for name, (times, note) in frames.items():
        timing = summarise(times)
        ratio = f"; {timing.median / own:.0f} x the student's" if name.startswith("nerf") else ""
        rows.append(Row(f"frame, {name}", 1e3 * timing.median, "ms", timing.spread, note=note + ratio))
    quality = {}
    for name, run in runs.items():
        run.renderer.rays_per_pixel = rays_per_pixel
        result = evaluate(run.renderer, scene, "test")
        quality[name] = {key: result[key] for key in ("psnr", "ssim")}
        rows += [Row(f"PSNR, {name}", result["psnr"], "dB"), Row(f"SSIM, {name}", result["ssim"], "")]
    fields = {**{name: run.field for name, run in runs.items()}, "nerf": nerf}
    rows += [Row(f"parameters, {name}", megabytes(field), "MB", note="fp32") for name, field in fields.items()]
    extra = {
        "scene": options.name,
        "frame": [options.size, int(camera.sizes[0, 1])],
        "rays_per_pixel": rays_per_pixel,
        "quality": quality,
    }
    report(f"kilonerf_{options.name}", f"KiloNeRF on {options.name}, frames of {options.size} pixels", rows, extra)
    if options.picture:
        view = scene.views("test")[0]
        truth = over_background(scene.images[view], teacher.renderer.background)
        parts = [truth, *(run.render(scene.cameras[view], ("rgb",))["rgb"].clamp(0, 1) for run in runs.values())]
        Image.fromarray((255 * torch.cat(parts, dim=1).numpy()).round().astype(np.uint8)).save(options.picture)


if __name__ == "__main__":
    main()
