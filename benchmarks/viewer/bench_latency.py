# SPDX-License-Identifier: Apache-2.0
"""Latency and frame rate of the viewer over its websocket: from a camera's message to the picture that follows it.

    python -m benchmarks.viewer.bench_latency RUN [--training DATA] [--signals RUN ...]
                                            [--device cuda --name viewer_cuda]

A page of 800 x 600 pixels orbits the scene and sends 50 cameras a second, as viser's does. A camera's latency is the
time until the first picture that was begun after it, which is at the latest the second one to arrive.
Then it rests, several times, until the first whole picture and the smooth one. With --training a training on DATA runs
three times for some seconds: without a page, with one at rest and with one that moves. --signals names runs of single
files, whose pages move in the same way; pictures and clips are dragged to and fro.
"""

import argparse
import contextlib
import dataclasses
import itertools
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import torch

import neurfield
from benchmarks.harness import Row, report
from neurfield.cameras.paths import look_at
from neurfield.training.method import RunConfig, default_preset, load_method
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.trainer import StepReport, Trainer
from neurfield.training.view_set import ViewSet
from neurfield.viewer import Live, ServeOptions, Viewer, shown_run
from neurfield.viewer.photos import Photos
from neurfield.viewer.shown import Home
from tests.viewer.wire import WirePage

SIZE = (800, 600)
FOV = 0.69
CAMERAS_PER_SECOND = 50
MOVING_SECONDS, N_RESTS = 10.0, 8
WARMUP_SECONDS, TRAINING_SECONDS = 6.0, 14.0


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


class Mover:
    """Sends the cameras of an orbit until it is told to stop."""

    def __init__(self, page: WirePage, poses: torch.Tensor, fov: float, cameras_per_second: float) -> None:
        self._page, self._poses, self._fov, self._interval = page, poses, fov, 1 / cameras_per_second
        self.sent: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        i = 0
        while not self._stop.wait(self._interval):
            self.sent.append(self._page.look_from(self._poses[i % len(self._poses)], self._fov))
            i += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def moving(
    page: WirePage,
    poses: torch.Tensor,
    seconds: float,
    fov: float = FOV,
    cameras_per_second: float = CAMERAS_PER_SECOND,
) -> tuple[list[float], list[float], list[int]]:
    """Latencies, times between pictures, and pixels of each, while the camera moves."""
    mover = Mover(page, poses, fov, cameras_per_second)
    arrived, pixels = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        frame = page.frame()
        arrived.append(frame.at)
        pixels.append(frame.size[0] * frame.size[1])
    mover.stop()
    latencies = []
    for sent in mover.sent:
        later = [at for at in arrived if at > sent]
        # the first picture may have been begun before this camera; the second cannot
        if len(later) > 1:
            latencies.append(later[1] - sent)
    skipped = len(latencies) // 10  # the size settles first
    return latencies[skipped:], [b - a for a, b in itertools.pairwise(arrived)], pixels


def opening_row(run: Path, c2w: torch.Tensor, device: str) -> Row:
    """From the start of the command to a picture on a page that waits for it."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "neurfield.cli.main", "view", str(run), "--port", "0", "--device", device]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        with WirePage(process.stdout.readline().split()[1], size=SIZE) as page:
            page.look_from(c2w, FOV)
            return Row("from the command to the first picture", page.frame().at - start, "s")
    finally:
        process.kill()
        process.wait()


def poses_around(home: Home, is_flat: bool) -> torch.Tensor:
    """`[500, 3, 4]`: once around what a page begins with, or beside it and back."""
    position, target, up = (torch.tensor(v) for v in (home.position, home.target, home.up))
    back, turn = position - target, 2 * torch.pi * torch.arange(500) / 500
    side = torch.linalg.cross(up, back)
    if is_flat:
        shift = 0.2 * turn.sin()[:, None] * side / side.norm() * home.scale
        return torch.cat([look_at(position[None] + move, target + move, home.up) for move in shift])
    height = (back @ up) * up
    around = turn.cos()[:, None] * (back - height) + turn.sin()[:, None] * side * (back - height).norm() / side.norm()
    return look_at(target + height + around, target, home.up)


def view_rows(run: neurfield.Run | neurfield.SignalRun, prefix: str = "") -> list[Row]:
    shown, fov = shown_run(run), FOV
    if isinstance(run, neurfield.Run):
        orbit = neurfield.orbit(run.cameras[run.views.splits["train"]], 500).c2w
    else:
        orbit, fov = poses_around(shown.home, run.config.kind in ("image", "video")), shown.home.fov
    rows = []
    with Viewer(shown, ServeOptions(port=0)) as viewer, WirePage(viewer.base_url, size=SIZE) as page:
        start = page.look_from(orbit[0], fov)
        rows.append(Row("first picture after the page's first camera", page.frame().at - start, "s"))
        page.frame_of(SIZE)
        latencies, gaps, pixels = moving(page, orbit, MOVING_SECONDS, fov)
        rows += [
            Row(
                "moving: latency, p50", percentile(latencies, 0.5), "s", note="at most: second picture after the camera"
            ),
            Row("moving: latency, p95", percentile(latencies, 0.95), "s"),
            Row("moving: pictures", 1 / statistics.mean(gaps), "1/s"),
            Row("moving: pixels of a picture", statistics.median(pixels), ""),
        ]
        whole, smooth = [], []
        for i in range(N_RESTS):
            sent = page.look_from(orbit[(37 * i) % len(orbit)], fov)
            page.frame_of(SIZE)
            whole.append(time.perf_counter() - sent)
            page.frame_of(SIZE)
            smooth.append(time.perf_counter() - sent)
        rows += [
            Row("at rest: first whole picture of 800 x 600, worst", max(whole), "s", note=f"of {N_RESTS}"),
            Row("at rest: smooth picture of 800 x 600, median", statistics.median(smooth), "s"),
            Row("at rest: smooth picture of 800 x 600, worst", max(smooth), "s"),
        ]
    return [dataclasses.replace(row, name=prefix + row.name) for row in rows]


class Training:
    """A training in a thread, with a viewer, whose samples are counted between `begin` and `rate`."""

    def __init__(self, scene: neurfield.Scene, device: str) -> None:
        method = load_method(default_preset(device, None))
        config = RunConfig(method=method, max_num_iterations=10**7, device=device)
        task, views = RadianceTask(scene, config), ViewSet.of_scene(scene)
        self._trainer = Trainer(task, config)
        self._live = Live(self._trainer)
        run = neurfield.Run(config, views, task.field, task.grid, 0)
        photos = Photos(lambda: scene)
        shown = shown_run(run, photos, lambda: self._trainer.step)
        self.viewer = Viewer(shown, ServeOptions(port=0), self._live)
        self._samples, self._start = 0, 0.0
        self._thread = threading.Thread(target=self._train)

    def __enter__(self) -> "Training":
        self._thread.start()
        time.sleep(WARMUP_SECONDS)
        self.begin()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()
        self._thread.join()
        self.viewer.close()

    def begin(self) -> None:
        self._samples, self._start = 0, time.perf_counter()

    def rate(self) -> float:
        """Samples per second since `begin`."""
        return self._samples / (time.perf_counter() - self._start)

    def _train(self) -> None:
        def on_step(step: StepReport) -> None:
            self._samples += step.n_samples
            self._live.on_step(step)

        with self._live:
            self._trainer.train(on_step)


def training_rows(data: Path, device: str) -> list[Row]:
    scene = neurfield.load_scene(data, splits=("train",))
    orbit = neurfield.orbit(scene.cameras, 500).c2w
    with Training(scene, device) as training:
        time.sleep(TRAINING_SECONDS)
        alone = training.rate()
    with Training(scene, device) as training, WirePage(training.viewer.base_url, size=SIZE) as page:
        page.look_from(orbit[0], FOV)
        page.frame_of(SIZE)
        training.begin()
        end = time.perf_counter() + TRAINING_SECONDS
        with contextlib.suppress(TimeoutError):
            while True:
                page.frame(max(end - time.perf_counter(), 0.0))
        resting = training.rate()
    with Training(scene, device) as training, WirePage(training.viewer.base_url, size=SIZE) as page:
        page.look_from(orbit[0], FOV)
        page.frame()
        training.begin()
        _, gaps, _ = moving(page, orbit, TRAINING_SECONDS)
        moved = training.rate()
    return [
        Row("training without a page", alone / 1e6, "Ms/s"),
        Row("training with a resting page, of that", resting / alone, ""),
        Row("training with a moving page, of that", moved / alone, ""),
        Row("moving while training: pictures", 1 / statistics.mean(gaps), "1/s"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--training", type=Path)
    parser.add_argument("--signals", type=Path, nargs="*", default=[])
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--name", default="viewer", help="of the result")
    options = parser.parse_args()
    run = neurfield.load(options.run)
    rows = [opening_row(options.run, run.cameras.c2w[0], options.device)]
    run.to(options.device)
    rows += view_rows(run)
    if options.training:
        rows += training_rows(options.training, options.device)
    for path in options.signals:
        signal = neurfield.load(path)
        signal.to(options.device)
        rows += view_rows(signal, f"{signal.config.kind}: ")
    report(options.name, "Viewer over the websocket, page of 800 x 600", rows)


if __name__ == "__main__":
    sys.exit(main())
