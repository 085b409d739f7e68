# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of the published field with 2^18 samples, and frames of 800 x 800 pixels, on a CUDA device.

The scene is the tests' coloured ball, 24 views of 400 x 400. Steps are timed many at a time, the device is waited for
at the end: everything that a run does counts, from drawing pixels to the updates of the occupancy grid. A frame counts
until its picture is on the host. Not yet run on a GPU.
"""

import time

import torch

from benchmarks.harness import Row, measure, report
from neurfield.training.device import why_not_cuda
from neurfield.training.method import MethodConfig, RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.trainer import StepReport, Trainer
from tests.scenes import ball_scene

WARM_UP = 288  # past the frequent updates of the grid, and past the capture of the graph


def timed_steps(trainer: Trainer, n: int) -> tuple[float, list[StepReport]]:
    """Seconds of a step, and what the steps said."""
    wait = torch.cuda.synchronize if trainer.config.device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    reports = [trainer.train_step() for _ in range(n)]
    wait()
    return (time.perf_counter() - start) / n, reports


def rows(device: str, method: MethodConfig, size: int = 400, warm_up: int = WARM_UP, n_steps: int = 256) -> list[Row]:
    scene = ball_scene(size=size)
    config = RunConfig(method=method, device=device, max_num_iterations=10**6)
    task = RadianceTask(scene, config)
    trainer = Trainer(task, config)
    timed_steps(trainer, warm_up)
    seconds, reports = timed_steps(trainer, n_steps)
    n_samples, n_rays = (sum(getattr(r, name) for r in reports) / n_steps for name in ("n_samples", "n_rays"))
    camera = scene.cameras[scene.splits["test"][0]].resized(800 / size)
    frame = measure(lambda: task.renderer.render(camera, ("rgb",)))
    return [
        Row("training step", 1e3 * seconds, "ms", note=f"{n_samples:.0f} samples of {n_rays:.0f} rays"),
        Row("training", n_samples / seconds / 1e6, "Ms/s"),
        Row("frame of 800 x 800", 1 / frame.median, "1/s", frame.spread),
    ]


def main() -> None:
    reason = why_not_cuda()
    if reason:
        print(f"cuda_step: not measured: {reason}")
        return
    report("cuda_step", f"steps and frames of ngp on {torch.cuda.get_device_name()}", rows("cuda", load_method("ngp")))


if __name__ == "__main__":
    main()
