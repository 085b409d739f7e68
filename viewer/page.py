# SPDX-License-Identifier: Apache-2.0
"""One browser page: its session, its panels, and the work it has asked for."""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
import viser
from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.errors import MachineError, UserError, is_out_of_memory
from neurfield.viewer import (
    appearance_panel,
    compare_panel,
    crop_panel,
    curve_panel,
    export_panel,
    keys,
    pan_panel,
    path_panel,
    photo_panel,
    screenshot_panel,
    sections_panel,
    time_panel,
    training_panel,
    triangles_panel,
    view_panel,
)
from neurfield.viewer.look import Eye, triple, viser_pose
from neurfield.viewer.session import LAST_STEP, OFFSETS, Cancelled, Session, moved
from neurfield.viewer.stage import Picture, rounded

if TYPE_CHECKING:
    from neurfield.viewer.server import Viewer

MOVING_QUALITY, RESTING_QUALITY = 75, 95  # of JPEG
MAX_SIDE = 16384  # of a page's picture; what it says is not trusted

# title of a tab: the panels in it, from top to bottom; each adds itself where there is what it is for
TABS: dict[str, tuple[Callable[["Page"], None], ...]] = {
    "View": (
        view_panel.build,
        pan_panel.build,
        time_panel.build,
        appearance_panel.build,
        sections_panel.build,
        compare_panel.build,
        crop_panel.build,
        photo_panel.build,
        triangles_panel.build,
        curve_panel.build,
    ),
    "Path": (path_panel.build,),
    "Export": (screenshot_panel.build, export_panel.build),
}


class Page:
    """What one client sees and does.

    Attributes:
        client: viser's handle.
        viewer: the server it belongs to.
        linked: what its link says of the look, see neurfield.viewer.linked.
        session: paints the pictures; None where there is no field.
        on_tick: called twice a second.
        controls: handles by name that panels let each other and the keys use.
    """

    def __init__(self, client: viser.ClientHandle, viewer: "Viewer", linked: Mapping[str, float] | None = None) -> None:
        self.client, self.viewer, self.linked = client, viewer, linked or {}
        self.on_tick: list[Callable[[], None]] = []
        self.actions: dict[str, Callable[[], None]] = {}
        self.closed = threading.Event()
        self._job: threading.Thread | None = None
        self._note = ""
        self._in_scene: set[str] = set()
        self.session: Session | None = None
        if viewer.shown.stage is not None:
            self.session = Session(viewer.shown.stage, viewer.turns, viewer.pace, self._show, self._say)

            async def moved_camera(camera: viser.CameraHandle) -> None:  # async ones are called in order
                self._see(camera)

            client.camera.on_update(moved_camera)
            self._see(client.camera)

    def build(self) -> None:
        """Adds the panels; the first picture is on its way meanwhile."""
        gui = self.client.gui
        if self.viewer.live is not None:
            training_panel.build(self)
        if self.session is None:
            photo_panel.build(self)
            triangles_panel.build(self)
        else:
            tabs = gui.add_tab_group()
            for title, panels in TABS.items():
                with tabs.add_tab(title):
                    for build in panels:
                        build(self)
        keys.build(self)

    def refresh(self) -> None:
        if self.session is not None:
            self.session.refresh()

    def tick(self) -> None:
        for call in self.on_tick:
            call()

    def close(self) -> None:
        """Drops all work for this page, and waits until it has ended."""
        self.closed.set()
        if self.session is not None:
            self.session.close()
        if self._job is not None:
            self._job.join(timeout=LAST_STEP)

    def tell(self, title: str, body: str = "", is_error: bool = False) -> None:
        """A note in the corner of the page that goes away by itself."""
        if not self.closed.is_set():
            color = "red" if is_error else None
            self.client.add_notification(title, body, auto_close_seconds=12.0 if is_error else 5.0, color=color)

    def guarded(self, action: Callable[[], None]) -> Callable[[object], None]:
        """A callback for viser whose errors are told on the page."""

        def call(event: object = None) -> None:
            try:
                action()
            except Cancelled:
                pass
            except (UserError, MachineError) as error:
                self.tell("Not done", str(error), is_error=True)
            except Exception as error:
                if not is_out_of_memory(error):
                    self.tell("This went wrong", f"{type(error).__name__}: {error}", is_error=True)
                    raise
                self.tell("Not done", "out of memory; choose a smaller size or resolution", is_error=True)

        return call

    def start(self, action: Callable[[], None]) -> None:
        """Runs long work in a thread; one at a time for each page.

        Raises:
            UserError: the page has work going on.
        """
        if self._job is not None and self._job.is_alive():
            raise UserError("this page is still at its last task; wait for it or cancel it")
        self._job = threading.Thread(
            target=self.guarded(action), args=(None,), name="neurfield-viewer-job", daemon=True
        )
        self._job.start()

    def jump(self, c2w: Tensor, fov: float) -> None:
        """Puts the page's camera at a pose `[3, 4]`, OpenGL axes, with a vertical field of view in radians."""
        wxyz, position = viser_pose(c2w)
        camera = self.client.camera
        with self.client.atomic():
            camera.position = position
            camera.wxyz = wxyz
            camera.fov = fov
        self.client.flush()

    def jump_home(self) -> None:
        """To where the page began."""
        home, camera = self.viewer.shown.home, self.client.camera
        with self.client.atomic():
            camera.up_direction = home.up
            camera.position = home.position
            camera.look_at = home.target
            camera.fov = home.fov
        self.client.flush()

    def hide_by_depth(self, name: str, is_shown: bool) -> None:
        """Whether something is in the scene that the field has to hide where it is behind it."""
        (self._in_scene.add if is_shown else self._in_scene.discard)(name)
        if self.session is not None:
            self.session.change(with_depth=bool(self._in_scene))

    def jump_to_view(self, view: int) -> None:
        """To a view of the data; all of its picture, of a panorama the middle, fits into the page's."""
        assert self.viewer.shown.views is not None
        cameras = self.viewer.shown.views.cameras
        width, height = cameras[view].shown_extents[0].tolist()
        narrow = max((width / height) / max(self.client.camera.aspect, 1e-3), 1.0)
        self.jump(cameras.c2w[view], 2 * math.atan(height / 2 * narrow))

    @property
    def eye(self) -> Eye:
        """The page's camera; raises UserError before it has one."""
        eye = self.session.eye if self.session else None
        if eye is None:
            raise UserError("the page has not told its camera yet")
        return eye

    def paint(
        self,
        camera: Cameras,
        step: Callable[[float], None],
        n_passes: int = len(OFFSETS),
        time: float | None = None,
    ) -> Tensor:
        """A smooth picture uint8 `[h, w, 3]` of a view with the page's look, for files.

        Args:
            step: called with the part done; what it raises ends the work.
            time: None: that of the page.
        """
        assert self.session is not None and self.viewer.shown.stage is not None
        look = self.session.look
        look = look if time is None else replace(look, time=time)
        total = torch.zeros(())
        for i, offset in enumerate(OFFSETS[:n_passes]):

            def tile(part: float, i: int = i) -> None:
                if self.closed.is_set():
                    raise Cancelled
                step((i + part) / n_passes)
                self.viewer.turns.pass_on()

            with self.viewer.turns:
                total = total + self.viewer.shown.stage.paint(moved(camera, offset), look, tile, True).image
        return rounded(total / n_passes)

    def _see(self, camera: viser.CameraHandle) -> None:
        numbers = [*camera.wxyz, *camera.position, camera.fov]
        sizes = (camera.image_width, camera.image_height)
        if not all(map(math.isfinite, numbers)) or not all(1 <= side <= MAX_SIDE for side in sizes):
            return
        if not 0.01 < camera.fov < 3.1 or not any(camera.wxyz):
            return
        w, x, y, z = map(float, camera.wxyz)
        assert self.session is not None
        self.session.see(Eye((w, x, y, z), triple(camera.position), float(camera.fov), sizes[0], sizes[1]))

    def _show(self, picture: Picture, is_final: bool) -> None:
        if self.closed.is_set():
            return
        image, depth = picture.image.numpy(), None
        if picture.depth is not None:
            # nothing is there; viser's depths end at 167
            depth = torch.where(picture.depth > 0, picture.depth, 160.0).numpy()
        quality = RESTING_QUALITY if is_final else MOVING_QUALITY
        self.client.scene.set_background_image(image, format="jpeg", jpeg_quality=quality, depth=depth)
        self.client.flush()

    def _say(self, line: str) -> None:
        if line != self._note:
            self._note = line
            if line:
                self.tell(line)
