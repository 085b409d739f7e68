# SPDX-License-Identifier: Apache-2.0
"""Latency and frame rate of the viewer over its websocket: from a camera's message to the picture that follows it.

    python -m benchmarks.viewer.bench_latency RUN [--training DATA]

A page of 800 x 600 pixels orbits the scene and sends 50 cameras a second, as viser's does. A camera's latency is the time
until the first picture that was begun after it, which is at the latest the second one to arrive: a bound from above.
Then it rests, several times, until the first whole picture and the smooth one. With --training a training on DATA runs
three times for some seconds: without a page, with one at rest and with one that moves.
"""

import argparse
import statistics
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import torch

import neurfield
from benchmarks.harness import Row, report
from neurfield.training.method import RunConfig, load_method
from neurfield.training.session import ViewSet
from neurfield.viewer import Live, ServeOptions, Shown, Viewer, shown_run
from neurfield.viewer.photos import Photos
from neurfield.viewer.stages import stage_of
from tests.viewer.wire import WirePage

SIZE = (800, 600)
FOV = 0.69
CAMERAS_PER_SECOND = 50
MOVING_SECONDS, N_RESTS, TRAINING_SECONDS = 10.0, 8, 12.0


def percentile(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(int(part * len(ordered)), len(ordered) - 1)]


class Mover:
    """Sends the cameras of an orbit until it is told to stop."""

    def __init__(self, page: WirePage, poses: torch.Tensor) -> None:
        self._page, self._poses = page, poses
        self.sent: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        i = 0
        while not self._stop.wait(1 / CAMERAS_PER_SECOND):
            self.sent.append(self._page.look_from(self._poses[i % len(self._poses)], FOV))
            i += 1

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def moving(page: WirePage, poses: torch.Tensor, seconds: float) -> tuple[list[float], list[float], list[int]]:
    """Latencies, times between pictures, and pixels of each, while the camera moves."""
    mover = Mover(page, poses)
    arrived, pixels = [], []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        frame = page.frame()
        arrived.append(frame.at)
        pixels.append(frame.image.shape[0] * frame.image.shape[1])
    mover.stop()
    latencies = []
    for sent in mover.sent:
        later = [at for at in arrived if at > sent]
        # the first picture may have been begun before this camera; the second cannot
        if len(later) > 1:
            latencies.append(later[1] - sent)
    skipped = len(latencies) // 10  # the size settles first
    return latencies[skipped:], [b - a for a, b in zip(arrived, arrived[1:], strict=False)], pixels


def view_rows(run: neurfield.Run) -> list[Row]:
    orbit = neurfield.orbit(run.cameras[run.views.splits["train"]], 500).c2w
    rows = []
    with Viewer(shown_run(run), ServeOptions(port=0)) as viewer, WirePage(viewer.base_url, size=SIZE) as page:
        start = page.look_from(orbit[0], FOV)
        rows.append(Row("first picture after the page's first camera", page.frame().at - start, "s"))
        page.frame_of(SIZE)
        latencies, gaps, pixels = moving(page, orbit, MOVING_SECONDS)
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
            sent = page.look_from(orbit[(37 * i) % len(orbit)], FOV)
            page.frame_of(SIZE)
            whole.append(time.perf_counter() - sent)
            page.frame_of(SIZE)
            smooth.append(time.perf_counter() - sent)
        rows += [
            Row("at rest: first whole picture of 800 x 600, worst", max(whole), "s", note=f"of {N_RESTS}"),
            Row("at rest: smooth picture of 800 x 600, median", statistics.median(smooth), "s"),
            Row("at rest: smooth picture of 800 x 600, worst", max(smooth), "s"),
        ]
    return rows


def training_rate(scene: neurfield.Scene, visit: Callable[[Viewer], None] | None) -> float:
    """Samples per second of a training, after a warm-up, while `visit` looks at it."""
    config = RunConfig(method=load_method("ngp-fast"), max_num_iterations=10**7)
    trainer, views = neurfield.Trainer(scene, config), ViewSet.of_scene(scene)
    live = Live(trainer)
    run = neurfield.Run(config, views, trainer.field, trainer.grid, 0)
    photos = Photos(lambda: scene)
    counted, start, ready = 0, 0.0, threading.Event()

    def on_step(step: neurfield.training.trainer.StepReport) -> None:  # type: ignore[name-defined]
        nonlocal counted, start
        live.on_step(step)
        if step.seconds > 6 and not start:
            ready.set()
            start = time.perf_counter()
        elif start:
            counted += step.n_samples

    def train() -> None:
        with live:
            trainer.train(on_step)

    with Viewer(
        Shown(views, photos, stage_of(run, photos, lambda: trainer.step), run), ServeOptions(port=0), live
    ) as v:
        thread = threading.Thread(target=train)
        thread.start()
        ready.wait()
        if visit:
            visit(v)
        else:
            time.sleep(TRAINING_SECONDS)
        rate = counted / (time.perf_counter() - start)
        live.stop()
        thread.join()
    return rate


def training_rows(data: Path) -> list[Row]:
    scene = neurfield.load_scene(data, splits=("train",))
    orbit = neurfield.orbit(scene.cameras, 500).c2w

    def rest(viewer: Viewer) -> None:
        with WirePage(viewer.base_url, size=SIZE) as page:
            page.look_from(orbit[0], FOV)
            end = time.perf_counter() + TRAINING_SECONDS
            while time.perf_counter() < end:
                try:
                    page.frame(max(end - time.perf_counter(), 0.01))
                except TimeoutError:
                    break

    gaps: list[float] = []

    def move(viewer: Viewer) -> None:
        with WirePage(viewer.base_url, size=SIZE) as page:
            page.look_from(orbit[0], FOV)
            gaps.extend(moving(page, orbit, TRAINING_SECONDS)[1])

    alone = training_rate(scene, None)
    resting, moved = training_rate(scene, rest), training_rate(scene, move)
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
    options = parser.parse_args()
    rows = view_rows(neurfield.load(options.run))
    if options.training:
        rows += training_rows(options.training)
    report("viewer", "Viewer over the websocket, page of 800 x 600", rows)


if __name__ == "__main__":
    sys.exit(main())
