# SPDX-License-Identifier: Apache-2.0
"""A training in the page: how far it is, how good, and buttons that pause, end and save it."""

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from neurfield.viewer.curve_panel import plot

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_CURVE_INTERVAL = 2.0  # seconds


def build(page: "Page") -> None:
    live, gui = page.viewer.live, page.client.gui
    assert live is not None
    with gui.add_folder("Training"):
        text = gui.add_markdown("about to start")
        bar = gui.add_progress_bar(0.0)
        buttons = gui.add_button_group("Training", ("Pause", "Resume", "Stop", "Save"))
        share = gui.add_slider(
            "Pictures' share, %", 0.5, 50.0, 0.5, 100 * page.viewer.pace.resting_share,
            hint="Of the time, for the picture of a page at rest while training.",
        )  # fmt: skip
        curve_folder = gui.add_folder("Curve")
    curve: Any = None
    drawn = (0.0, 0)  # time and number of points of the last curve
    saved = live.n_saved

    def act() -> None:
        {"Pause": live.pause, "Resume": live.resume, "Stop": live.stop, "Save": live.save}[buttons.value]()

    def toggle() -> None:
        (live.resume if live.is_paused else live.pause)()

    def set_share() -> None:
        page.viewer.pace.resting_share = share.value / 100

    def tick() -> None:
        nonlocal curve, drawn, saved
        report = live.last
        if live.n_saved != saved:
            saved = live.n_saved
            page.tell("Checkpoint saved")
        if report is None:
            return
        state = "done" if live.has_ended else "paused" if live.is_paused else "training"
        good = f"loss {report.loss:.2g}" if math.isnan(report.psnr) else f"PSNR of the batches {report.psnr:.1f} dB"
        line = f"**{state}**, step {report.step}, {report.seconds:.0f} s, {good}"
        if text.content != line:
            text.content = line
            bar.value = 100.0 if live.has_ended else 100 * min(report.progress, 1.0)
        points = live.curve.points
        if len(points) < 2 or len(points) == drawn[1] or time.monotonic() - drawn[0] < _CURVE_INTERVAL:
            return
        drawn = (time.monotonic(), len(points))
        if curve is None:
            with curve_folder:
                curve = plot(page, live.curve)
        else:
            curve.data = tuple(np.array(column, np.float64) for column in zip(*points, strict=True))

    buttons.on_click(page.guarded(act))
    share.on_update(page.guarded(set_share))
    page.actions["pause"] = toggle
    page.on_tick.append(tick)
