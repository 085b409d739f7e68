# SPDX-License-Identifier: Apache-2.0
"""Web pages of trained scenes against the renderer: the same picture, file size and rays per second.

    python -m benchmarks.scenes.bench_web RUN [RUN ...] [--size 320 200] [--gpu] [--name web]

Chromium draws with its software renderer, or, with --gpu, with what it finds. A page is timed from its first draw to
its finished picture, four rays a pixel and what went before them; the renderer draws the same view with four.
"""

import argparse
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import neurfield
from benchmarks.harness import Row, measure, report
from neurfield.cameras.cameras import Cameras

SOFTWARE = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
RAYS = 1 + 4  # of a pixel at rest: the whole picture, then its smooth one


def drawn_in_browser(page: Path, width: int, height: int, gl: tuple[str, ...]) -> tuple[np.ndarray, float]:
    """The finished picture `[h, w, 3]`, 0 ... 1, and the seconds from the first draw to it."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=path, args=["--no-sandbox", *gl])
        # what moves stands at time 0
        tab = browser.new_page(viewport={"width": width, "height": height}, reduced_motion="reduce")
        tab.goto(page.as_uri())
        started = None
        while (state := tab.evaluate("document.documentElement.dataset.state")) != "finished":
            if state == "failed":
                raise SystemExit(f"{page.name}: {tab.inner_text('p')}")
            started = started or (time.monotonic() if state == "drawing" else None)
            time.sleep(0.02)
        seconds = time.monotonic() - (started or time.monotonic())
        tab.add_style_tag(content="p, #clock { display: none }")
        picture = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("RGB")) / np.float32(255)
        browser.close()
    return picture, seconds


def rows_of(run: neurfield.Run, name: str, width: int, height: int, gl: tuple[str, ...]) -> list[Row]:
    first = run.cameras[run.views.train[0]]
    focal = float(torch.minimum(width / first.sizes[0, 0] * first.intrinsics[0, 0],
                                height / first.sizes[0, 1] * first.intrinsics[0, 1]))  # fmt: skip
    camera = Cameras.pinhole(first.c2w, focal, width, height)
    run.renderer.rays_per_pixel = 4
    wanted = run.render(camera, ("rgb",))["rgb"].clamp(0, 1).numpy()
    with tempfile.TemporaryDirectory() as folder:
        page = run.export_web(Path(folder) / f"{name}.html")
        n_bytes = page.stat().st_size
        shown, seconds = drawn_in_browser(page, width, height, gl)
    error = np.abs(shown - wanted)
    rays = width * height
    own = measure(lambda: run.render(camera, ("rgb",)))
    return [
        Row(f"{name}: page", n_bytes / 1e6, "MB"),
        Row(f"{name}: page against renderer", float(-10 * np.log10((error**2).mean())), "dB"),
        Row(f"{name}: largest difference", 255 * float(error.max()), "/255"),
        Row(
            f"{name}: page", RAYS * rays / seconds / 1e3, "krays/s", note="from the first draw to the finished picture"
        ),
        Row(f"{name}: renderer, {run.grid.bitfield.device}", 4 * rays / own.median / 1e3, "krays/s", own.spread),
    ]


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--size", nargs=2, type=int, default=(320, 200))
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--name", default="web")
    options = parser.parse_args(argv)
    gl = () if options.gpu else SOFTWARE
    rows = []
    for path in options.runs:
        run = neurfield.load(path)
        assert isinstance(run, neurfield.Run)
        rows += rows_of(run, run.views.name, *options.size, gl)
    size = " x ".join(map(str, options.size))
    report(options.name, f"Web pages, {size} pixels, {'what Chromium finds' if gl == () else 'software GL'}", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
