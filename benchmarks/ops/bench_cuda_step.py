# SPDX-License-Identifier: Apache-2.0
"""Whole training steps of the published field with 2^18 samples, and frames of 800 x 800 pixels, on a CUDA device.

The scene is the tests' coloured ball, 24 views of 400 x 400. Steps are timed many at a time, the device is waited for
at the end: everything that a run does counts, from drawing pixels to the updates of the occupancy grid. A frame counts
until its picture is on the host. The roof of training is what the card's copies and matrix products allow: every entry
of the tables has a gradient that is zeroed and read, every sample of a step passes the networks once forward and, as
products, twice backward; what is gathered from tables, and samples that turn out to lie behind surfaces, are not in it.
Where nerfacc and tiny-cuda-nn are installed, the same field is trained with them (benchmarks/peers/nerfacc_step.py), in
this run; the ratio is that of samples per second, since steps have different numbers of samples.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import torch

from benchmarks.harness import Row, measure, report
from benchmarks.ops.cuda_card import Card
from benchmarks.peers.cuda_peer import found
from benchmarks.peers.nerfacc_step import PeerTrainer
from neurfield.fields.radiance_field import RadianceField
from neurfield.training.device import why_not_cuda
from neurfield.training.method import MethodConfig, RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.trainer import Trainer
from tests.scenes import ball_scene

WARM_UP = 288  # past the frequent updates of the grid, and past the capture of the graph


class Counted(Protocol):
    """What a step says of itself."""

    @property
    def n_rays(self) -> int: ...

    @property
    def n_samples(self) -> int: ...


Said = TypeVar("Said", bound=Counted)


def timed_steps(step: Callable[[], Said], device: str, n: int) -> tuple[float, list[Said]]:
    """Seconds of a step, and what the steps said."""
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    wait()
    start = time.perf_counter()
    said = [step() for _ in range(n)]
    wait()
    return (time.perf_counter() - start) / n, said


def step_rows(name: str, step: Callable[[], Counted], device: str, warm_up: int, n_steps: int) -> list[Row]:
    timed_steps(step, device, warm_up)
    seconds, said = timed_steps(step, device, n_steps)
    n_samples, n_rays = (sum(getattr(one, count) for one in said) / n_steps for count in ("n_samples", "n_rays"))
    return [
        Row(f"{name}training step", 1e3 * seconds, "ms", note=f"{n_samples:.0f} samples of {n_rays:.0f} rays"),
        Row(f"{name}training", n_samples / seconds / 1e6, "Ms/s"),
    ]


def with_roof(training: Row, card: Card, field: RadianceField, n_samples: int) -> Row:
    """The row against what the card allows."""
    sizes = {name: value.numel() for name, value in field.named_parameters()}
    tables = sum(n for name, n in sizes.items() if name.startswith(field.sparse_parameters))
    roof, note = card.roof(8 * tables / n_samples, 6 * (sum(sizes.values()) - tables))
    return replace(training, roof=roof, note=note)


def rows(device: str, method: MethodConfig, size: int = 400, warm_up: int = WARM_UP, n_steps: int = 256) -> list[Row]:
    scene = ball_scene(size=size)
    config = RunConfig(method=method, device=device, max_num_iterations=10**6)
    task = RadianceTask(scene, config)
    step, training = step_rows("", Trainer(task, config).train_step, device, warm_up, n_steps)
    card = Card.measured(torch.device(device))
    training = with_roof(training, card, task.field, method.training.n_samples)
    camera = scene.cameras[scene.splits["test"][0]].resized(800 / size)
    task.renderer.rays_per_pixel = 1
    frame = measure(lambda: task.renderer.render(camera, ("rgb",)))
    return [step, training, Row("frame of 800 x 800", 1 / frame.median, "1/s", frame.spread, note="one ray a pixel")]


def peer_rows(
    nerfacc: Any, tcnn: Any, own: Row, device: str, n_samples: int, size: int = 400, warm_up: int = WARM_UP,
    n_steps: int = 256,
) -> list[Row]:  # fmt: skip
    """The peers' step, and how many times its samples per second are `own`."""
    trainer = PeerTrainer(nerfacc, tcnn, ball_scene(size=size), n_samples, torch.device(device))
    peer = step_rows("nerfacc + tiny-cuda-nn, ", trainer.train_step, device, warm_up, n_steps)
    return [*peer, Row("training against nerfacc + tiny-cuda-nn", own.value / peer[1].value, "times")]


def main() -> None:
    reason = why_not_cuda()
    if reason:
        print(f"cuda_step: not measured: {reason}")
        return
    method = load_method("ngp")
    measured = rows("cuda", method)
    nerfacc, tcnn = found("nerfacc"), found("tinycudann")
    if nerfacc and tcnn:
        measured += peer_rows(nerfacc, tcnn, measured[1], "cuda", method.training.n_samples)
    report("cuda_step", f"steps and frames of ngp on {torch.cuda.get_device_name()}", measured)


if __name__ == "__main__":
    main()
