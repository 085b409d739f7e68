# SPDX-License-Identifier: Apache-2.0
"""Camera paths: key frames taken from the view, moved, previewed, saved, loaded and rendered to a video."""

import math
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import viser
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.cameras.keyframes import KeyframePath, read_keyframes
from neurfield.errors import UserError
from neurfield.rendering.video import MAX_FPS, VideoWriter
from neurfield.viewer import marks
from neurfield.viewer.job import Job
from neurfield.viewer.look import matrix_from_viser, triple, viser_pose

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

MAX_VIDEO_SIDE, MAX_VIDEO_FRAMES, MAX_KEYS = 3840, 3600, 200
MAX_UPLOAD = 8 << 20  # bytes of a path file
_PREVIEW_FPS = 15.0
_CURVE_POINTS = 200


def build(page: "Page") -> None:
    _PathPanel(page)


class _PathPanel:
    """The panel and what it edits."""

    def __init__(self, page: "Page") -> None:
        self._page, gui = page, page.client.gui
        self._poses: list[Tensor] = []
        self._fov: list[float] = []  # degrees
        self._frusta: list[viser.CameraFrustumHandle] = []
        self._handles: viser.TransformControlsHandle | None = None
        self._playing = threading.Event()
        add = gui.add_button("Add key frame", hint="From where the page looks now.")
        self._list = gui.add_dropdown("Key frame", ("none",), initial_value="none")
        self._key_fov = gui.add_slider("Its field of view", 5.0, 150.0, 0.5, 50.0, disabled=True)
        chosen = gui.add_button_group(
            "This key",
            ("Look", "Set", "Move", "Remove"),
            hint="Look: jump there. Set: to the present view. Move: show handles.",
        )
        self._seconds = gui.add_number("Seconds", 4.0, min=0.1, max=600.0, step=0.1)
        self._fps = gui.add_number("Pictures per second", 30, min=1, max=int(MAX_FPS), step=1)
        self._size = gui.add_vector2("Size", (1280, 720), min=(16, 16), max=(MAX_VIDEO_SIDE,) * 2, step=2)
        self._panorama = gui.add_checkbox(
            "Panorama", False, hint="Pictures show all around, 360 degrees; a size twice as wide as high suits them."
        )
        self._loop = gui.add_checkbox("Loop", False, hint="From the last key on to the first.")
        stage = page.viewer.shown.stage
        self._is_dynamic = stage is not None and stage.controls.is_dynamic
        self._time_runs = gui.add_checkbox(
            "Time runs along", True, visible=self._is_dynamic, hint="From 0 to 1; otherwise it is the page's."
        )
        play = gui.add_button_group("Preview", ("Play", "Stop", "Clear all"))
        save = gui.add_button("Save path", hint="As JSON that nerfstudio and `neurfield render --camera-path` play.")
        load = gui.add_upload_button("Load path", mime_type="application/json")
        render = gui.add_button("Render video")
        self._job = Job(page, "Cancel the video")
        guarded = page.guarded
        add.on_click(guarded(self.add))
        chosen.on_click(guarded(lambda: self._of_key(chosen.value)))
        play.on_click(guarded(lambda: self._preview(play.value)))
        save.on_click(guarded(self._save))
        load.on_upload(guarded(lambda: self._load(load.value.content)))
        render.on_click(guarded(lambda: self._job.start(self._render)))
        self._list.on_update(guarded(self._choose))
        self._key_fov.on_update(guarded(self._set_fov))
        for handle in (self._seconds, self._fps, self._size, self._loop):
            handle.on_update(guarded(self._draw_curve))
        page.on_tick.append(self._set_visible)
        page.actions |= {"add key frame": self.add, "play path": lambda: self._preview("Play")}

    @property
    def path(self) -> KeyframePath:
        width, height = (int(side) for side in self._size.value)
        return KeyframePath(
            torch.stack(self._poses) if self._poses else torch.empty(0, 3, 4),
            torch.tensor(self._fov),
            float(self._seconds.value),
            float(self._fps.value),
            bool(self._loop.value),
            (width, height),
            None if self._time_runs.value or self._page.session is None else self._page.session.look.time,
            bool(self._panorama.value),
        )

    def add(self) -> None:
        """A key frame where the page looks, after the chosen one."""
        if len(self._poses) >= MAX_KEYS:
            raise UserError(f"a path in the page has at most {MAX_KEYS} key frames")
        eye, place = self._page.eye, self._index() + 1
        self._poses.insert(place, eye.c2w)
        self._fov.insert(place, math.degrees(eye.fov))
        self._draw(place)

    def _index(self) -> int:
        """The chosen key, -1: none."""
        return int(self._list.value) - 1 if self._list.value != "none" else -1

    def _draw(self, chosen: int) -> None:
        """Shows the keys anew."""
        self._hide_handles()
        for frustum in self._frusta:
            frustum.remove()
        self._frusta = []
        width, height = self._size.value
        size = 0.08 / self._page.viewer.shown.frame.scale
        for i, (pose, fov) in enumerate(zip(self._poses, self._fov, strict=True)):
            wxyz, position = viser_pose(pose)
            frustum = self._page.client.scene.add_camera_frustum(
                f"/path/keys/{i}", math.radians(fov), width / height, scale=size, color=(70, 160, 255),
                wxyz=wxyz, position=position, thickness=0.04 * size, cast_shadow=False, receive_shadow=False,
            )  # fmt: skip
            frustum.on_click(self._page.guarded(lambda i=i: self._move(i)))  # type: ignore[misc]
            self._frusta.append(frustum)
        self._set_visible()
        n = len(self._poses)
        self._list.options = tuple(str(i + 1) for i in range(n)) if n else ("none",)
        self._list.value = str(min(chosen, n - 1) + 1) if n else "none"
        self._choose()
        self._draw_curve()

    def _set_visible(self) -> None:
        marks.show(self._frusta, self._page.client)

    def _draw_curve(self) -> None:
        scene = self._page.client.scene
        scene.remove_by_name("/path/curve")
        if len(self._poses) < 2:
            return
        cameras = replace(self.path, fps=_CURVE_POINTS / self.path.seconds).cameras()
        points = cameras.c2w[:, :, 3]
        lines = torch.stack([points[:-1], points[1:]], dim=1).numpy()
        thickness = 0.004 / self._page.viewer.shown.frame.scale
        scene.add_line_segments("/path/curve", points=lines, colors=(70, 160, 255), thickness=thickness)

    def _choose(self) -> None:
        i = self._index()
        self._key_fov.disabled = i < 0
        if i >= 0:
            self._key_fov.value = min(max(self._fov[i], 5.0), 150.0)

    def _set_fov(self) -> None:
        i = self._index()
        if i >= 0:
            self._fov[i] = float(self._key_fov.value)
            self._frusta[i].fov = math.radians(self._fov[i])

    def _of_key(self, action: str) -> None:
        i = self._index()
        if i < 0:
            raise UserError("there is no key frame yet; add one first")
        if action == "Look":
            self._page.jump(self._poses[i], math.radians(self._fov[i]))
        elif action == "Set":
            self._poses[i], self._fov[i] = self._page.eye.c2w, math.degrees(self._page.eye.fov)
            self._draw(i)
        elif action == "Move":
            self._move(i)
        else:
            del self._poses[i], self._fov[i]
            self._draw(max(i - 1, 0))

    def _move(self, i: int) -> None:
        """Handles at a key; it follows them."""
        self._list.value = str(i + 1)
        self._hide_handles()
        wxyz, position = viser_pose(self._poses[i])
        size = 0.25 / self._page.viewer.shown.frame.scale
        handles = self._page.client.scene.add_transform_controls(
            "/path/handles", scale=size, wxyz=wxyz, position=position, depth_test=False
        )
        self._handles = handles

        def follow() -> None:
            if i < len(self._poses):
                self._poses[i] = matrix_from_viser(tuple(map(float, handles.wxyz)), triple(handles.position))  # type: ignore[arg-type]
                self._frusta[i].wxyz, self._frusta[i].position = handles.wxyz, handles.position
                self._draw_curve()

        handles.on_update(self._page.guarded(follow))

    def _hide_handles(self) -> None:
        if self._handles is not None:
            self._handles.remove()
            self._handles = None

    def _preview(self, action: str) -> None:
        self._playing.clear()
        if action == "Clear all":
            self._poses, self._fov = [], []
            self._draw(0)
        elif action == "Play":
            path = self.path
            cameras = replace(path, fps=min(_PREVIEW_FPS, path.fps)).cameras()
            self._playing.set()
            self._page.start(lambda: self._play(cameras, path.loop))

    def _play(self, cameras: Cameras, loop: bool) -> None:
        start, frame = time.monotonic(), 0
        while self._playing.is_set() and not self._page.closed.is_set():
            # a page that is slow skips frames and keeps the time
            frame = int((time.monotonic() - start) * min(_PREVIEW_FPS, self.path.fps))
            if frame >= len(cameras) and not loop:
                return
            camera = cameras[frame % len(cameras)]
            fov = 2 * math.atan(float(camera.shown_extents[0, 1]) / 2)
            self._page.jump(camera.c2w[0], fov)
            if self._is_dynamic and self._page.session is not None:
                self._page.session.change(time=float(camera.times[0]))
            time.sleep(1 / _PREVIEW_FPS)

    def _save(self) -> None:
        self._page.client.send_file_download("camera_path.json", self.path.dumps().encode(), save_immediately=True)

    def _load(self, content: bytes) -> None:
        if len(content) > MAX_UPLOAD:
            raise UserError(f"a path file has at most {MAX_UPLOAD >> 20} MiB, this one {len(content) / 2**20:.1f}")
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "the file"
            file.write_bytes(content)
            path = read_keyframes(file)
        if len(path.poses) > MAX_KEYS:
            raise UserError(f"a path in the page has at most {MAX_KEYS} key frames, this file {len(path.poses)}")
        self._poses, self._fov = list(path.poses), path.fov.tolist()
        self._seconds.value, self._fps.value, self._loop.value = path.seconds, round(path.fps), path.loop
        self._size.value, self._panorama.value = path.size, path.panorama
        self._draw(0)

    def _render(self) -> None:
        path = self.path
        cameras = path.cameras()
        times = cameras.times.tolist() if self._is_dynamic else [None] * len(cameras)
        if len(cameras) > MAX_VIDEO_FRAMES or max(path.size) > MAX_VIDEO_SIDE:
            raise UserError(
                f"the page renders at most {MAX_VIDEO_FRAMES} pictures of {MAX_VIDEO_SIDE} pixels; save the path and "
                "use `neurfield render --camera-path`"
            )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "camera_path.mp4"
            with VideoWriter(file, path.fps) as writer:
                for i in range(len(cameras)):

                    def step(part: float, i: int = i) -> None:
                        self._job.step((i + part) / len(cameras))

                    writer.add(self._page.paint(cameras[i], step, time=times[i]))
            content = file.read_bytes()
        self._page.client.send_file_download(file.name, content, save_immediately=True)
        self._page.tell("The video is done", f"{len(cameras)} pictures")
