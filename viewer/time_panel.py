# SPDX-License-Identifier: Apache-2.0
"""The time of a video: a slider, and playing it in a loop."""

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_SPEEDS = ("0.1", "0.25", "0.5", "1", "2", "4")
_LONGEST_WAIT = 1 / 30  # seconds between two times that a page is told
_SLIDER_INTERVAL = 0.25  # seconds between two places of the slider while it plays


def build(page: "Page") -> None:
    stage = page.viewer.shown.stage
    if stage is not None and stage.controls.n_frames > 0:
        _TimePanel(page, stage.controls.n_frames, stage.controls.fps)


class _TimePanel:
    """The controls and the thread that moves them on."""

    def __init__(self, page: "Page", n_frames: int, fps: float) -> None:
        self._page, self._n_frames, self._fps = page, n_frames, fps
        gui = page.client.gui
        self._frame = gui.add_slider("Picture", 0, max(n_frames - 1, 1), 1, 0, disabled=n_frames == 1)
        self._button = gui.add_button("Play", disabled=n_frames == 1)
        self._speed = gui.add_dropdown("Speed", _SPEEDS, initial_value="1")
        self._playing = threading.Event()
        self._moved_by_player = -1  # place of the slider that was not a hand's doing
        self._frame.on_update(page.guarded(self._set))
        self._button.on_click(page.guarded(self.toggle))
        page.actions["play"] = self.toggle
        self._show(0.0)

    def toggle(self) -> None:
        """Plays, or pauses."""
        if self._playing.is_set():
            self._playing.clear()
        elif self._n_frames > 1:
            self._playing.set()
            threading.Thread(target=self._play, name="neurfield-viewer-video", daemon=True).start()

    def _set(self) -> None:
        """The slider was moved by hand, which ends the playing."""
        if self._frame.value != self._moved_by_player:
            self._playing.clear()
            self._show(float(self._frame.value))

    def _show(self, frame: float) -> None:
        """A time between pictures is one that the field knows, too."""
        assert self._page.session is not None
        self._page.session.change(time=(frame + 0.5) / self._n_frames)

    def _play(self) -> None:
        self._button.label = "Pause"
        frame, then, moved_at = float(self._frame.value), time.monotonic(), 0.0
        try:
            while self._playing.is_set() and not self._page.closed.is_set():
                time.sleep(min(1 / (self._fps * float(self._speed.value)), _LONGEST_WAIT))
                now = time.monotonic()
                frame = (frame + (now - then) * self._fps * float(self._speed.value)) % self._n_frames
                then = now
                if not self._playing.is_set():
                    break  # a hand has moved the slider meanwhile
                self._show(min(frame, self._n_frames - 0.5))
                if now - moved_at > _SLIDER_INTERVAL:
                    moved_at, self._moved_by_player = now, int(frame)
                    self._frame.value = self._moved_by_player
        finally:
            self._playing.clear()
            self._button.label = "Play"
