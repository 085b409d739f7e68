# SPDX-License-Identifier: Apache-2.0
"""One page: its camera and look in, pictures out.

While something changes, each picture is as large as its time allows (neurfield.viewer.resolution). Once nothing has
changed for REST seconds the picture is painted whole (of slow fields one halfway first), then again with the rays
moved within their pixels, and the mean is shown. A picture that is not wanted any more is dropped at its next tile; one
that is due within a frame's time is finished, since a camera that moves all the time would otherwise never be followed.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.errors import MachineError, UserError, one_line
from neurfield.progress import Progress
from neurfield.viewer.look import Eye, Look
from neurfield.viewer.pace import Pace
from neurfield.viewer.resolution import Resolution, fitted
from neurfield.viewer.stage import Picture, Stage
from neurfield.viewer.turns import Turns

log = logging.getLogger("neurfield.viewer")
SLOW = 0.6  # seconds of a whole picture from which each further one is shown, and not only the last
LONG = 2.5  # seconds that a whole picture is expected to take from which one of a size between comes first
LAST_STEP = 10.0  # seconds that whoever ends a thread waits for its present step
REST = 0.12  # seconds without change after which the camera counts as resting
# Where rays pass through their pixels, from its middle: the R2 sequence (Roberts 2018), whose first points are even.
OFFSETS = ((0.0, 0.0), (-0.245, 0.14), (0.26, -0.29), (0.02, 0.28))


class Cancelled(Exception):
    """The picture is not wanted any more."""


@dataclass(frozen=True)
class Statistics:
    """Of the pictures of a page.

    Attributes:
        fps: pictures per second lately.
        size: width and height of the last one.
        wait, render, send: seconds of the last one: until its turn, in the field, to the page (encoding it as JPEG).
        samples_per_ray: of the last view at rest, or None.
        n_passes: pictures that the shown one is the mean of; 0 while the camera moves.
        note: of the stage, about the shown picture.
    """

    fps: float
    size: tuple[int, int]
    wait: float
    render: float
    send: float
    samples_per_ray: float | None
    n_passes: int
    note: str

    @property
    def rays_per_second(self) -> float:
        return self.size[0] * self.size[1] / max(self.render, 1e-9)


class Session:
    """Paints for one page in a thread of its own until `close`.

    Args:
        stage: what is shown.
        turns: shared by all that computes.
        pace: shared by all pages.
        show: takes a picture, whether it is final, and hands it to the page.
        say: takes what went wrong with a picture; an empty line after one that went well.
    """

    def __init__(
        self,
        stage: Stage,
        turns: Turns,
        pace: Pace,
        show: Callable[[Picture, bool], None],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._stage, self._turns, self._pace, self._show, self._say = stage, turns, pace, show, say
        self._resolution = Resolution(pace.seconds_per_frame)
        self._changed = threading.Condition()
        self._eye: Eye | None = None
        self._look = Look()
        self._version = 0  # grows with every change
        self._drawn = 0  # version of the last picture
        self._at = 0.0  # time of the last change
        self._closed = False
        self._times: deque[float] = deque(maxlen=30)
        self._size, self._seconds = (0, 0), (0.0, 0.0, 0.0)  # until its turn, rendering, sending
        self._samples: float | None = None
        self._n_passes = 0
        self._note = ""
        self._thread = threading.Thread(target=self._run, name="neurfield-viewer-session", daemon=True)
        self._thread.start()

    @property
    def look(self) -> Look:
        return self._look

    @property
    def eye(self) -> Eye | None:
        return self._eye

    def see(self, eye: Eye) -> None:
        """The page's camera is there now."""
        with self._changed:
            if eye != self._eye:
                self._eye = eye
                self._note_change()

    def change(self, **values: object) -> None:
        """Changes fields of the look."""
        with self._changed:
            look = replace(self._look, **values)  # type: ignore[arg-type]
            if look != self._look:
                self._look = look
                self._note_change()

    def refresh(self) -> None:
        """What is shown has changed."""
        with self._changed:
            self._note_change()

    def close(self) -> None:
        """Ends the thread; a picture being painted is dropped."""
        with self._changed:
            self._closed = True
            self._note_change()
        self._thread.join(timeout=LAST_STEP)

    def statistics(self) -> Statistics:
        now = time.monotonic()
        recent = [t for t in tuple(self._times) if now - t < 2]
        fps = (len(recent) - 1) / max(recent[-1] - recent[0], 1e-3) if len(recent) > 1 else 0.0
        return Statistics(fps, self._size, *self._seconds, self._samples, self._n_passes, self._note)

    def _note_change(self) -> None:
        self._version += 1
        self._at = time.monotonic()
        self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or (self._eye and self._version != self._drawn))
                if self._closed:
                    return
                eye, look, version = self._eye, self._look, self._version
            assert eye is not None
            try:
                self._attempt(lambda: self._moving(eye, look))  # noqa: B023
                self._drawn = version
                if self._rests(version):
                    self._attempt(lambda: self._resting(eye, look, version))  # noqa: B023
            except Cancelled:
                continue

    def _attempt(self, paint: Callable[[], None]) -> None:
        """Faults of one picture are said on the page and do not end the session."""
        try:
            paint()
        except Cancelled:
            raise
        except (UserError, MachineError) as error:
            self._say(str(error))
        except Exception as error:  # torch's, of files, of this program: the next picture may be well
            log.exception("viewer: a picture failed")
            self._say(f"this picture failed: {one_line(error)}")

    def _rests(self, version: int) -> bool:
        """Waits until nothing has changed for REST; False as soon as something does."""
        with self._changed:
            while self._version == version:
                left = self._at + REST - time.monotonic()
                if left <= 0:
                    return True
                self._changed.wait(left)
        return False

    def _moving(self, eye: Eye, look: Look) -> None:
        full = fitted(eye.width, eye.height, look.longest)
        self._resolution.seconds = self._pace.seconds_per_frame
        width, height = self._resolution.size(*full)
        self._wait(self._pace.delay())
        start = time.perf_counter()
        with self._turns:
            taken = time.perf_counter()
            picture = self._draft(eye.camera(width, height), replace(look, with_depth=False), self._keep_if_open)
        self._n_passes = 0
        self._send(picture, False, start, taken)
        # what waiting for a turn costs is not the size's fault
        seconds = time.perf_counter() - taken
        self._pace.spent(seconds)
        self._resolution.observe(width, height, seconds)

    def _resting(self, eye: Eye, look: Look, version: int) -> None:
        """Whole pictures while nothing changes, and new ones while the field is being trained."""

        def step(part: float) -> None:
            if self._version != version:
                raise Cancelled
            self._turns.pass_on()

        self._halfway(eye, look, step)
        while True:
            width, height = fitted(eye.width, eye.height, look.longest)
            camera, total, cost = eye.camera(width, height), None, 0.0
            # a field that learns has changed before its picture is smooth
            if self._stage.is_slow(look):
                start = time.perf_counter()
                with self._turns:
                    taken = time.perf_counter()
                    draft = self._draft(camera, look, step)
                self._send(draft, False, start, taken)
            n_passes = 1 if self._pace.is_training() else len(OFFSETS)
            for i, offset in enumerate(OFFSETS[:n_passes]):
                start = time.perf_counter()
                with self._turns:
                    taken = time.perf_counter()
                    painted = self._stage.paint(moved(camera, offset), look, step, True)
                    total = painted.image if total is None else total + painted.image
                    picture = Picture.of(replace(painted, image=total / (i + 1)))
                    rendered = time.perf_counter()
                    if i == 0:
                        self._samples = self._stage.samples_per_ray(camera)
                seconds = time.perf_counter() - start
                cost += seconds
                self._n_passes = i + 1
                if i in (0, n_passes - 1) or seconds > SLOW:
                    self._send(picture, True, start, taken, rendered)
            if not self._pace.is_training():
                return
            with self._changed:
                if self._changed.wait_for(lambda: self._version != version, self._pace.rest(cost)):
                    return

    def _halfway(self, eye: Eye, look: Look, step: Callable[[float], None]) -> None:
        """A picture between the moving one before and the whole one, in number of pixels, where that will take long."""
        width, height = fitted(eye.width, eye.height, look.longest)
        part = self._size[0] * self._size[1] / (width * height)
        if not 0 < part < 0.5 or self._seconds[1] < LONG * part:  # 0 or 1: the moving picture has failed
            return
        side = part**0.25
        camera = eye.camera(max(round(width * side), 1), max(round(height * side), 1))
        start = time.perf_counter()
        with self._turns:
            taken = time.perf_counter()
            picture = self._draft(camera, look, step)
        self._send(picture, False, start, taken)

    def _draft(self, camera: Cameras, look: Look, step: Progress) -> Picture:
        """A picture that is not final. Fetching it is part of the turn: a GPU has only been asked for it before."""
        return Picture.of(self._stage.paint(camera, look, step, False))

    def _keep_if_open(self, part: float) -> None:
        if self._closed:
            raise Cancelled

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            with self._changed:
                self._changed.wait_for(lambda: self._closed, seconds)

    def _send(
        self, picture: Picture, is_final: bool, asked: float, taken: float, rendered: float | None = None
    ) -> None:
        """Hands a picture on that was asked for, got its turn and was rendered (None: now) at these times."""
        rendered = rendered or time.perf_counter()
        self._note = picture.note
        self._say("")
        sending = time.perf_counter()
        self._show(picture, is_final)
        self._seconds = (taken - asked, rendered - taken, time.perf_counter() - sending)
        height, width = picture.image.shape[:2]
        self._size = (width, height)
        self._times.append(time.monotonic())


def moved(camera: Cameras, offset: tuple[float, float]) -> Cameras:
    """The camera whose rays pass `offset` pixels beside the middles of its pixels."""
    shift: Tensor = torch.tensor([[0.0, 0.0, *offset]])
    return replace(camera, intrinsics=camera.intrinsics + shift)
