# SPDX-License-Identifier: Apache-2.0
"""What a page gets of pictures that take a known time to render: the rest is the viewer's own part.

    python -m benchmarks.viewer.bench_page

A stage waits for as long as a renderer would take for a whole picture of 800 x 600, or a part of that in proportion to
the pixels, and gives stripes of colour. The page moves as that of `bench_latency`, whose 50 cameras a second are the
most that viser's send, and with 200, so that no picture waits for its camera.
"""

import functools
import statistics
import sys
import time
from dataclasses import dataclass

import torch

from benchmarks.harness import Row, report
from benchmarks.viewer.bench_latency import CAMERAS_PER_SECOND, SIZE, moving, percentile, poses_around
from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization
from neurfield.viewer import ServeOptions, Viewer
from neurfield.viewer.look import Look
from neurfield.viewer.shown import Home, Shown
from neurfield.viewer.stage import Controls, Painted, Step
from tests.viewer.wire import WirePage

RENDERING = (0.0, 0.005, 0.01, 0.02)  # seconds of a whole picture
MOVING_SECONDS = 4.0


@dataclass(frozen=True)
class Stripes:
    """A stage whose whole pictures take `seconds`."""

    seconds: float

    @property
    def modes(self) -> dict[str, str]:
        return {"colour": "stripes"}

    @property
    def controls(self) -> Controls:
        return Controls()

    def paint(self, camera: Cameras, look: Look, step: Step, is_final: bool) -> Painted:
        width, height = camera.sizes[0].tolist()
        time.sleep(self.seconds * width * height / (SIZE[0] * SIZE[1]))
        return Painted(stripes(width, height))

    def is_slow(self, look: Look) -> bool:
        return False

    def samples_per_ray(self, camera: Cameras) -> float | None:
        return None


@functools.cache
def stripes(width: int, height: int) -> torch.Tensor:
    x, y = 40 * torch.linspace(0, 1, width), 30 * torch.linspace(0, 1, height)[:, None]
    return 0.5 + 0.5 * torch.stack([(x + y).sin(), (x - y).cos(), (2 * x + 0 * y).sin()], dim=2)


def rows(seconds: float, cameras_per_second: float) -> list[Row]:
    home = Home.around(Normalization(1.0, (0.5, 0.5, 0.5)), (1.0, 1.0, 0.5), (0.0, 0.0, 1.0), 2.0)
    shown = Shown("stripes", home, Normalization(1.0, (0.5, 0.5, 0.5)), Stripes(seconds))
    with Viewer(shown, ServeOptions(port=0)) as viewer, WirePage(viewer.base_url, size=SIZE) as page:
        poses = poses_around(home, False)
        page.look_from(poses[0])
        page.frame_of(SIZE)
        latencies, gaps, pixels = moving(page, poses, MOVING_SECONDS, home.fov, cameras_per_second)
        (served,) = viewer.pages.values()
        assert served.session is not None
        sending = served.session.statistics().send
    name = f"{1000 * seconds:.0f} ms of rendering, {cameras_per_second:.0f} cameras a second: "
    return [
        Row(f"{name}pictures", 1 / statistics.mean(gaps), "1/s", note=f"of {statistics.median(pixels):.0f} pixels"),
        Row(f"{name}latency, p50", percentile(latencies, 0.5), "s"),
        Row(f"{name}latency, p95", percentile(latencies, 0.95), "s"),
        Row(f"{name}to the page", sending, "s", note="of the last picture: encoding and handing it over"),
    ]


def main() -> None:
    found = [row for rate in (CAMERAS_PER_SECOND, 4 * CAMERAS_PER_SECOND) for s in RENDERING for row in rows(s, rate)]
    report("viewer_page", "Pictures of a known time on a page of 800 x 600", found)


if __name__ == "__main__":
    sys.exit(main())
