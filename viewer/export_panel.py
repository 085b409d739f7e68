# SPDX-License-Identifier: Apache-2.0
"""Files of what the page shows: meshes, which may lie in the scene, too, point clouds and web pages."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from neurfield.cameras.paths import quaternion_from_matrix
from neurfield.errors import UserError
from neurfield.geometry import WRITERS, gltf_from_world
from neurfield.viewer.job import Job

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

MAX_RESOLUTION, MAX_POINTS = 512, 5_000_000
_TEXTURES = {"in vertices": None, "texture of 1024": 1024, "texture of 2048": 2048, "texture of 4096": 4096}
_MESH_IN_SCENE = "/mesh"


def build(page: "Page") -> None:
    gui, session = page.client.gui, page.session
    exports, scale = page.viewer.shown.exports, page.viewer.shown.frame.scale
    up = page.viewer.shown.home.up
    if exports is None or session is None:
        return
    with gui.add_folder("Mesh"):
        resolution = gui.add_slider("Resolution", 32, MAX_RESOLUTION, 32, 256, hint="Cells along the longest side.")
        suffix = gui.add_dropdown("Format", tuple(WRITERS), initial_value=".glb")
        colors = gui.add_dropdown(
            "Colours", tuple(_TEXTURES), visible=exports.textured is not None,
            hint="In the vertices, or in a texture of so many texels a side for 50 000 triangles, of .glb.",
        )  # fmt: skip
        save_mesh = gui.add_button("Save mesh")
        show_mesh = gui.add_button("Show it in the scene")
        in_scene = gui.add_checkbox("Mesh is shown", True, visible=False)
        shift = gui.add_slider("Aside by", -1.5, 1.5, 0.05, 0.0, visible=False, hint="In widths of the scene.")
    with gui.add_folder("Point cloud"):
        n_points = gui.add_number("Points", 200_000, min=1000, max=MAX_POINTS, step=1000)
        save_points = gui.add_button("Save point cloud (.ply)")
    job = Job(page)

    def mesh(ending: str) -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            file, cells = Path(folder) / f"mesh{ending}", min(int(resolution.value), MAX_RESOLUTION)
            size = _TEXTURES[colors.value]
            if size is not None and ending != ".glb":
                raise UserError(f"a texture is saved in .glb, not {ending}; choose that format, or colours in vertices")
            with page.viewer.turns:
                if size is not None and exports.textured is not None:
                    n_faces = exports.textured(session.look, file, cells, size, job.step_in_turn)
                else:
                    n_faces = exports.mesh(session.look, file, cells, job.step_in_turn)
            page.tell("The mesh is done", f"{n_faces} triangles")
            return file.read_bytes()

    def download_mesh() -> None:
        page.client.send_file_download(f"mesh{suffix.value}", mesh(suffix.value), save_immediately=True)

    def mesh_in_scene() -> None:
        data = mesh(".glb")
        # the file's node turns what is up for these views, too, to y, which is up in glTF: that is taken back
        w, x, y, z = quaternion_from_matrix(torch.from_numpy(gltf_from_world(up).T)[None])[0].tolist()
        page.client.scene.add_glb(_MESH_IN_SCENE, data, wxyz=(w, x, y, z))
        in_scene.visible = shift.visible = True
        in_scene.value = True
        place()

    def place() -> None:
        handle = page.client.scene.get_handle_by_name(_MESH_IN_SCENE)
        if handle is None:
            return
        handle.visible = in_scene.value
        handle.position = (float(shift.value) / scale, 0.0, 0.0)
        page.hide_by_depth(_MESH_IN_SCENE, in_scene.value)

    def download(name: str, write: Callable[[Path], object]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            with page.viewer.turns:
                write(file)
            page.client.send_file_download(name, file.read_bytes(), save_immediately=True)

    def points() -> None:
        n = min(int(n_points.value), MAX_POINTS)
        download("points.ply", lambda file: exports.points(session.look, file, n, job.step_in_turn))

    save_mesh.on_click(page.guarded(lambda: job.start(download_mesh)))
    show_mesh.on_click(page.guarded(lambda: job.start(mesh_in_scene)))
    save_points.on_click(page.guarded(lambda: job.start(points)))
    if write_page := exports.page:

        def web_page() -> None:
            download(f"{page.viewer.shown.name}.html", lambda file: write_page(session.look, file))

        with gui.add_folder("Web page"):
            save_page = gui.add_button("Save web page (.html)", hint="One file that draws the field in any browser.")
        save_page.on_click(page.guarded(lambda: job.start(web_page)))
    in_scene.on_update(page.guarded(place))
    shift.on_update(page.guarded(place))
