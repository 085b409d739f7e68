# SPDX-License-Identifier: Apache-2.0
"""KiloNeRF beside its teacher and the original NeRF: quality, time of a frame, memory.

    python -m benchmarks.scenes.bench_kilonerf --teacher RUN --student RUN --nerf RUN [--data DATA] [--size 800]
        [--name lego] [--views 25] [--picture FILE]

Frames of SIZE x SIZE pixels of the first test view. The original NeRF is measured twice: as published, 64 coarse and
192 fine samples on every ray, and with skipping of empty space and early termination, through the student's own
occupancy grid. Both are measured on a regular subset of the pixels (stated as `pixels`) and scaled to the frame. Its
quality says little: on a CPU it is trained for minutes only. Its time with termination depends on that, too:
rays end late in soft surfaces, so the ratio of a sharp one would be smaller.
results/kilonerf_NAME.json holds the figures; FILE shows the photo, the teacher and the student side by side.
"""

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import Row, report, summarise
from neurfield import load_scene
from neurfield.cameras.cameras import Cameras
from neurfield.rendering.color import over_background
from neurfield.rendering.hierarchical import render_hierarchical
from neurfield.rendering.renderer import Renderer, image_rays
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
    origins, directions = (r.view(height, width, 3)[::stride, ::stride].reshape(-1, 3).contiguous() for r in rays)
    return origins, directions


def seconds_of(fn: Callable[[], object], repetitions: int) -> list[float]:
    fn()
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return times


def megabytes(run: Run) -> float:
    return sum(p.numel() * p.element_size() for p in run.field.parameters()) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("teacher", "student", "nerf"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--data")
    parser.add_argument("--size", type=int, default=800)
    parser.add_argument("--name", default="scene")
    parser.add_argument("--views", type=int, default=25)
    parser.add_argument("--picture", type=Path)
    options = parser.parse_args()
    runs = {name: load(getattr(options, name)) for name in ("teacher", "student", "nerf")}
    teacher, student, nerf = runs["teacher"], runs["student"], runs["nerf"]
    scene = load_scene(options.data or teacher.config.data, teacher.config.load, splits=("test",))
    scene.splits["test"] = scene.splits["test"][: options.views]
    camera = resized(scene.cameras[scene.views("test")[0]], options.size)
    n_pixels = options.size * int(camera.sizes[0, 1])

    frames: dict[str, tuple[list[float], str]] = {}
    with torch.no_grad():
        for name, run in (("hash field (teacher)", teacher), ("kilonerf (student)", student)):
            frames[name] = (seconds_of(lambda run=run: run.render(camera, ("rgb",)), 5), "whole frame")
        marching = Renderer(nerf.field, student.grid, nerf.views.normalization, student.renderer.options)
        for name, stride, fn in (
            ("nerf, skipping and termination", 8, lambda *rays: marching.render_rays(*rays, ("rgb",))),
            ("nerf, 64 + 192 samples a ray", 32, lambda *rays: render_hierarchical(nerf.field, nerf.field, *rays)),
        ):
            rays = frame_rays(nerf, camera, stride)
            scale = n_pixels / len(rays[0])
            times = [scale * t for t in seconds_of(lambda fn=fn, rays=rays: fn(*rays), 3)]
            frames[name] = (times, f"{len(rays[0])} pixels, scaled by {scale:.0f}")

    own = summarise(frames["kilonerf (student)"][0]).median
    rows = []
    for name, (times, note) in frames.items():
        timing = summarise(times)
        ratio = f"; {timing.median / own:.0f} x kilonerf" if name.startswith("nerf") else ""
        rows.append(Row(f"frame, {name}", 1e3 * timing.median, "ms", timing.spread, note=note + ratio))
    quality = {}
    for name in ("teacher", "student"):
        result = evaluate(runs[name].renderer, scene, "test")
        quality[name] = {key: result[key] for key in ("psnr", "ssim")}
        rows += [Row(f"PSNR, {name}", result["psnr"], "dB"), Row(f"SSIM, {name}", result["ssim"], "")]
    rows += [Row(f"parameters, {name}", megabytes(run), "MB", note="fp32") for name, run in runs.items()]
    extra = {"scene": options.name, "frame": [options.size, int(camera.sizes[0, 1])], "quality": quality}
    report(f"kilonerf_{options.name}", f"KiloNeRF on {options.name}, frames of {options.size} pixels", rows, extra)
    if options.picture:
        view = scene.views("test")[0]
        truth = over_background(scene.images[view], teacher.renderer.background)
        parts = [truth, *(run.render(scene.cameras[view], ("rgb",))["rgb"].clamp(0, 1) for run in (teacher, student))]
        Image.fromarray((255 * torch.cat(parts, dim=1).numpy()).round().astype(np.uint8)).save(options.picture)


if __name__ == "__main__":
    main()
