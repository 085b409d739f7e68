# SPDX-License-Identifier: Apache-2.0
"""Files of what the page shows: screenshot, mesh, point cloud."""

import io
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from neurfield.errors import UserError
from neurfield.export.mesh import export_mesh
from neurfield.export.point_cloud import export_point_cloud
from neurfield.geometry import WRITERS
from neurfield.run import Run
from neurfield.viewer.session import Cancelled

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

MAX_SIDE, MAX_RESOLUTION, MAX_POINTS = 4096, 512, 5_000_000
_MESH_IN_SCENE = "/mesh"


def build(page: "Page") -> None:
    gui, cancelled = page.client.gui, threading.Event()
    with gui.add_folder("Screenshot"):
        size = gui.add_vector2("Size", (1280, 720), min=(16, 16), max=(MAX_SIDE, MAX_SIDE), step=1)
        shoot = gui.add_button("Save PNG", hint="The field alone, as it is shown, smooth.")
    with gui.add_folder("Mesh"):
        resolution = gui.add_slider("Resolution", 32, MAX_RESOLUTION, 32, 256, hint="Cells along the longest side.")
        suffix = gui.add_dropdown("Format", tuple(WRITERS), initial_value=".glb")
        save_mesh = gui.add_button("Save mesh")
        show_mesh = gui.add_button("Show it in the scene")
        in_scene = gui.add_checkbox("Mesh is shown", True, visible=False)
        shift = gui.add_slider("Aside by", -1.5, 1.5, 0.05, 0.0, visible=False, hint="In widths of the scene.")
    with gui.add_folder("Point cloud"):
        n_points = gui.add_number("Points", 200_000, min=1000, max=MAX_POINTS, step=1000)
        save_points = gui.add_button("Save point cloud (.ply)")
    progress = gui.add_progress_bar(0.0, visible=False)
    cancel = gui.add_button("Cancel", visible=False)
    cancel.on_click(page.guarded(cancelled.set))

    def step(part: float) -> None:
        if cancelled.is_set() or page.closed.is_set():
            raise Cancelled
        progress.value = min(max(100 * part, 0.0), 100.0)

    def long(work: object) -> None:
        """Work with a progress bar, in a thread of its own."""

        def run() -> None:
            cancelled.clear()
            progress.value, progress.visible, cancel.visible = 0.0, True, True
            try:
                work()  # type: ignore[operator]
            finally:
                progress.visible = cancel.visible = False

        page.start(run)

    def screenshot() -> None:
        width, height = (int(side) for side in size.value)
        if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
            raise UserError(f"a screenshot has 1 ... {MAX_SIDE} pixels on each side, got {width} x {height}")
        picture = page.paint(page.eye.camera(width, height), step)
        data = io.BytesIO()
        Image.fromarray(picture.numpy()).save(data, "PNG")
        page.client.send_file_download("screenshot.png", data.getvalue(), save_immediately=True)

    def in_turns(part: float) -> None:
        step(part)
        page.viewer.turns.pass_on()

    def mesh(ending: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"mesh{ending}"
            with page.viewer.turns:
                done = export_mesh(
                    cropped_run(page), file, min(int(resolution.value), MAX_RESOLUTION), progress=in_turns
                )
            page.tell("The mesh is done", f"{done.report.n_faces} triangles")
            return file.read_bytes()

    def download_mesh() -> None:
        page.client.send_file_download(f"mesh{suffix.value}", mesh(suffix.value), save_immediately=True)

    def mesh_in_scene() -> None:
        data = mesh(".glb")
        half = 0.5**0.5
        # glTF has y up; the quarter turn around x takes its node's rotation back
        page.client.scene.add_glb(_MESH_IN_SCENE, data, wxyz=(half, half, 0.0, 0.0))
        in_scene.visible = shift.visible = True
        in_scene.value = True
        place()

    def place() -> None:
        handle = page.client.scene.get_handle_by_name(_MESH_IN_SCENE)
        if handle is None:
            return
        handle.visible = in_scene.value
        handle.position = (float(shift.value) / page.viewer.shown.views.normalization.scale, 0.0, 0.0)
        if page.session is not None:
            page.session.change(with_depth=in_scene.value)

    def points() -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "points.ply"
            with page.viewer.turns:
                export_point_cloud(cropped_run(page), file, min(int(n_points.value), MAX_POINTS), progress=in_turns)
            page.client.send_file_download(file.name, file.read_bytes(), save_immediately=True)

    shoot.on_click(page.guarded(lambda: long(screenshot)))
    save_mesh.on_click(page.guarded(lambda: long(download_mesh)))
    show_mesh.on_click(page.guarded(lambda: long(mesh_in_scene)))
    save_points.on_click(page.guarded(lambda: long(points)))
    in_scene.on_update(page.guarded(place))
    shift.on_update(page.guarded(place))
    page.actions["screenshot"] = lambda: long(screenshot)


def cropped_run(page: "Page") -> Run:
    """The run without what the page's crop box leaves out.

    Raises:
        UserError: there is no run to export.
    """
    run, session = page.viewer.shown.run, page.session
    if run is None or session is None:
        raise UserError("there is nothing to export yet")
    crop = session.look.crop
    if crop is None:
        return run
    norm = run.views.normalization
    grid = run.grid.cropped(lambda x: crop.inside((x - x.new_tensor(norm.offset)) / norm.scale))
    return Run(run.config, run.views, run.field, grid, run.step)
