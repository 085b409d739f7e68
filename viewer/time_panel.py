# SPDX-License-Identifier: Apache-2.0
"""The time of a video or of a field that moves: a slider, and playing it in a loop."""

import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "4")
_LONGEST_WAIT = 1 / 30  # seconds between two times that a page is told
_SLIDER_INTERVAL = 0.25  # seconds between two places of the slider while it plays
_LOOP = 4.0  # seconds that all times of a field take at speed 1; nobody knows how long its scene took


@dataclass(frozen=True)
class _Scale:
    """Places of the slider, 0 ... last; `time = (place + shift) / period` is that of a look, 0 ... 1.

    `rate` is how many places pass in a second at speed 1.
    """

    label: str
    last: float
    step: float
    period: float
    shift: float
    rate: float

    def time(self, place: float) -> float:
        return (place + self.shift) / self.period

    def place(self, time: float) -> float:
        """The nearest place that the slider has."""
        place = round((time * self.period - self.shift) / self.step) * self.step
        return min(max(place, 0), self.last)


def build(page: "Page") -> None:
    stage = page.viewer.shown.stage
    if stage is None:
        return
    controls, n = stage.controls, stage.controls.n_frames
    if controls.is_dynamic:
        _TimePanel(page, _Scale("Time", 1.0, 0.01, 1.0, 0.0, 1 / _LOOP))
    elif n > 0:  # a time between pictures is one that the field knows, too
        _TimePanel(page, _Scale("Picture", max(n - 1, 1), 1, n, 0.5, controls.fps), is_still=n == 1)


class _TimePanel:
    """The controls and the thread that moves them on."""

    def __init__(self, page: "Page", scale: _Scale, is_still: bool = False) -> None:
        self._page, self._scale, self._is_still = page, scale, is_still
        gui = page.client.gui
        start = scale.place(page.linked.get("time", 0.0))
        self._place = gui.add_slider(scale.label, type(scale.last)(0), scale.last, scale.step, start, disabled=is_still)
        self._button = gui.add_button("Play", disabled=is_still)
        self._speed = gui.add_dropdown("Speed", _SPEEDS, initial_value="1")
        self._playing = threading.Event()
        self._time = scale.time(start)  # that this panel has shown or followed
        self._moved_by_player = start  # place of the slider that was not a hand's doing
        self._place.on_update(page.guarded(self._set))
        self._button.on_click(page.guarded(self.toggle))
        page.actions["play"] = self.toggle
        page.on_tick.append(self._follow)
        self._show(start)

    def toggle(self) -> None:
        """Plays, or pauses."""
        if self._playing.is_set():
            self._playing.clear()
        elif not self._is_still:
            self._playing.set()
            threading.Thread(target=self._play, name="neurfield-viewer-video", daemon=True).start()

    def _set(self) -> None:
        """The slider was moved: by a hand, which ends the playing, or by the player or `_follow`."""
        place = float(self._place.value)
        ours = self._moved_by_player if self._playing.is_set() else self._scale.place(self._time)
        if abs(place - ours) > self._scale.step / 2:
            self._playing.clear()
            self._show(place)

    def _show(self, place: float) -> None:
        assert self._page.session is not None
        time = self._scale.time(place)
        self._page.session.change(time=time)
        self._time = time  # afterwards: should `_follow` come between, it does the same

    def _follow(self) -> None:
        """Puts the slider where a camera path has moved the page."""
        assert self._page.session is not None
        time = self._page.session.look.time
        if not self._playing.is_set() and time != self._time:
            self._time = time
            self._place.value = self._scale.place(time)

    def _play(self) -> None:
        self._button.label = "Pause"
        scale, place, then, moved_at = self._scale, float(self._place.value), time.monotonic(), 0.0
        try:
            while self._playing.is_set() and not self._page.closed.is_set():
                speed = float(self._speed.value) * scale.rate
                time.sleep(min(scale.step / speed, _LONGEST_WAIT))
                now = time.monotonic()
                place = (place + (now - then) * speed) % scale.period
                then = now
                if not self._playing.is_set():
                    break  # a hand has moved the slider meanwhile
                self._show(min(place, scale.period - scale.step / 2))
                if now - moved_at > _SLIDER_INTERVAL:
                    moved_at = now
                    self._moved_by_player = min(int(place / scale.step) * scale.step, scale.last)
                    self._place.value = self._moved_by_player
        finally:
            self._playing.clear()
            self._button.label = "Play"
