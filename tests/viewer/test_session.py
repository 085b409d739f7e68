# SPDX-License-Identifier: Apache-2.0
"""A page's pictures: coarse while it moves, whole and smooth at rest, dropped when they are not wanted any more."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from neurfield.cameras.cameras import Cameras
from neurfield.errors import MachineError, UserError
from neurfield.viewer.look import Eye, Look
from neurfield.viewer.pace import Pace
from neurfield.viewer.session import OFFSETS, Session
from neurfield.viewer.stage import Painted, Picture, rounded
from neurfield.viewer.turns import Turns

EYE = Eye((1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 0.7, 640, 480)


@dataclass
class Slow:
    """A stage whose whole pictures take `seconds`, in tiles of a twentieth."""

    seconds: float = 0.2
    modes: dict[str, str] = field(default_factory=lambda: {"colour": ""})
    painted: list[tuple[int, bool]] = field(default_factory=list)
    dropped: int = 0
    fails: Exception | None = None

    def paint(self, camera: Cameras, look: Look, step: Callable[[float], None], is_final: bool) -> Painted:
        width, height = camera.sizes[0].tolist()
        if self.fails:
            raise self.fails
        for i in range(20):
            time.sleep(self.seconds / 20 * width * height / (640 * 480))
            try:
                step((i + 1) / 20)
            except Exception:
                self.dropped += 1
                raise
        self.painted.append((width, is_final))
        return Painted(torch.full((height, width, 3), float(camera.intrinsics[0, 2]) - width / 2 + 0.5))

    def is_slow(self, look: Look) -> bool:
        return False

    def samples_per_ray(self, camera: Cameras) -> float:
        return 7.0


class Shown:
    """Collects pictures."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bool, float]] = []  # width, whether final, first value
        self.lines: list[str] = []
        self.changed = threading.Condition()

    def __call__(self, picture: Picture, is_final: bool) -> None:
        with self.changed:
            self.frames.append((picture.image.shape[1], is_final, float(picture.image[0, 0, 0]) / 255))
            self.changed.notify_all()

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, 10), self.frames


class Dtypes(TorchDispatchMode):
    """Of what is brought to the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.of: list[torch.dtype] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if (kwargs or {}).get("device") == torch.device("cpu"):
            self.of.append(args[0].dtype)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def shown():
    return Shown()


def session_of(stage: Slow, shown: Shown, pace: Pace | None = None) -> Session:
    return Session(stage, Turns(), pace or Pace(), shown, shown.lines.append)


def test_a_moving_picture_first_then_a_whole_and_a_smooth_one(shown):
    stage = Slow()
    session = session_of(stage, shown)
    session.see(EYE)
    shown.wait(lambda: len(shown.frames) == 3)
    time.sleep(0.1)
    session.close()
    (width, is_final, _), whole, smooth = shown.frames
    assert width < 640 and not is_final
    assert whole == (640, True, 128 / 255) and smooth[:2] == (640, True)
    # the mean over passes whose rays are moved within the pixel, rounded to a byte
    assert smooth[2] == pytest.approx(0.5 + sum(x for x, _ in OFFSETS) / len(OFFSETS), abs=0.51 / 255)
    assert smooth[2] != whole[2]
    assert session.statistics().samples_per_ray == 7.0 and session.statistics().n_passes == len(OFFSETS)


def test_a_picture_is_fetched_within_the_turn_that_painted_it(shown, monkeypatch):
    """A GPU has only been asked for it before: another's turn would begin beside it, and its time be called sending."""
    turns, taken = Turns(), []
    fetch = Picture.of
    monkeypatch.setattr(Picture, "of", lambda painted: (taken.append(turns._taken), fetch(painted))[1])
    session = Session(Slow(), turns, Pace(), shown)
    session.see(EYE)
    shown.wait(lambda: len(taken) == 1 + len(OFFSETS))
    session.close()
    assert taken == [True] * (1 + len(OFFSETS))


def test_a_picture_is_rounded_where_it_lies():
    levels = torch.arange(256) / 255
    assert rounded(levels).tolist() == list(range(256)) and torch.equal(levels, torch.arange(256) / 255)
    assert rounded(torch.tensor([0.0, 0.49 / 255, 0.51 / 255, 1.0, math.nan]))[:4].tolist() == [0, 0, 1, 255]
    with FakeTensorMode(), Dtypes() as fetched:
        image = rounded(torch.empty(4, 5, 3, device="cuda:0"))
    assert (image.device.type, image.dtype) == ("cpu", torch.uint8) and fetched.of == [torch.uint8]


def test_a_slow_field_shows_a_picture_halfway_to_the_whole_one(shown):
    """Minutes of a blur are no way to look at a field whose whole picture takes as long."""
    stage = Slow(seconds=8.0)
    session = session_of(stage, shown)
    session.see(EYE)
    shown.wait(lambda: len(shown.frames) == 2)
    session.close()
    (first, _, _), (halfway, is_final, _) = shown.frames
    assert not is_final and halfway**2 == pytest.approx(first * 640, rel=0.02)


def test_offsets_stay_in_the_pixel_and_are_centred():
    points = torch.tensor(OFFSETS)
    assert points.abs().max() < 0.5 and points.mean(0).abs().max() < 0.05


def test_a_whole_picture_is_dropped_when_the_camera_moves_on(shown):
    stage = Slow(seconds=2.0)
    session = session_of(stage, shown)
    session.see(EYE)
    shown.wait(lambda: len(shown.frames) == 1)
    time.sleep(0.4)  # at rest, within the whole picture
    start = time.monotonic()
    session.see(replace(EYE, position=(1.0, 0.0, 0.0)))
    shown.wait(lambda: len(shown.frames) == 2)
    assert time.monotonic() - start < 0.5 and stage.dropped == 1
    assert shown.frames[1][1] is False
    session.close()


def test_a_camera_that_never_rests_is_followed(shown):
    session = session_of(Slow(), shown)
    end, i = time.monotonic() + 1.0, 0
    while time.monotonic() < end:
        session.see(replace(EYE, position=(float(i), 0.0, 0.0)))
        i += 1
        time.sleep(0.01)
    assert len([frame for frame in shown.frames if not frame[1]]) > 10
    assert not any(frame[1] for frame in shown.frames)
    session.close()


def test_a_page_that_leaves_frees_its_work(shown):
    stage = Slow(seconds=5.0)
    session = session_of(stage, shown)
    session.see(EYE)
    shown.wait(lambda: len(shown.frames) == 1)
    time.sleep(0.4)
    start = time.monotonic()
    session.close()
    assert time.monotonic() - start < 1 and stage.dropped == 1
    assert not session._thread.is_alive()


def test_the_same_camera_again_costs_nothing(shown):
    stage = Slow(seconds=0.05)
    session = session_of(stage, shown)
    session.see(EYE)
    shown.wait(lambda: len(shown.frames) == 3)
    session.see(replace(EYE))
    session.change(mode="colour")
    time.sleep(0.3)
    assert len(shown.frames) == 3
    session.change(background=(0.0, 0.0, 0.0))
    shown.wait(lambda: len(shown.frames) == 6)
    session.close()


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (UserError("no picture today"), "no picture today"),
        (MachineError("the disk is full"), "the disk is full"),
        (IndexError("7 of 3"), "this picture failed: 7 of 3"),
    ],
)
def test_a_fault_is_said_and_survived(shown, fault, said):
    stage = Slow(seconds=0.05, fails=fault)
    session = session_of(stage, shown)
    session.see(EYE)
    end = time.monotonic() + 5
    while said not in shown.lines and time.monotonic() < end:
        time.sleep(0.01)
    assert said in shown.lines
    stage.fails = None
    session.see(replace(EYE, fov=0.8))
    shown.wait(lambda: len(shown.frames) >= 1)
    session.close()


def test_while_training_moving_pictures_keep_to_their_share(shown):
    stage = Slow(seconds=1.0)
    session = session_of(stage, shown, Pace(lambda: True))
    end, i = time.monotonic() + 2.0, 0
    while time.monotonic() < end:
        session.see(replace(EYE, position=(float(i), 0.0, 0.0)))
        i += 1
        time.sleep(0.01)
    session.close()
    # 1 s for 640 x 480; a busy machine shows fewer, so only too much is a fault
    spent = sum(width * width * 0.75 / (640 * 480) for width, _ in stage.painted[3:])
    assert 0 < spent / 2.0 < 0.45
