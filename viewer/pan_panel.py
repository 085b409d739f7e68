# SPDX-License-Identifier: Apache-2.0
"""A picture is moved by dragging it, where viser would turn it; the wheel zooms, as everywhere."""

import math
from typing import TYPE_CHECKING

import numpy as np
import viser

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_CANVAS = 1000.0  # half the side, in widths of the picture: what can be taken hold of is everywhere
_NEAREST = 1e-4  # to the picture, in its widths


def build(page: "Page") -> None:
    stage = page.viewer.shown.stage
    if stage is None or not stage.controls.is_flat:
        return
    # the lights are for meshes; on the canvas below a browser without a GPU would spend ten seconds on them
    page.client.scene.configure_environment_map(None)
    page.client.scene.configure_default_lights(cast_shadow=False)
    camera = page.client.camera
    scale = page.viewer.shown.home.scale
    camera.min_orbit_distance = _NEAREST * scale
    side = _CANVAS * scale
    corners = np.array([(-side, -side, 0), (side, -side, 0), (side, side, 0), (-side, side, 0)], np.float32)
    canvas = page.client.scene.add_mesh_simple(
        "/canvas", corners, np.array([(0, 1, 2), (0, 2, 3)], np.uint32), opacity=0.0, side="double", cast_shadow=False,
        receive_shadow=False,
    )  # fmt: skip
    held: tuple[np.ndarray, tuple[float, float]] | None = None

    @canvas.on_drag("left")
    async def drag(event: viser.SceneNodeDragEvent) -> None:  # async ones are called in order
        nonlocal held
        if event.phase == "start" or held is None:
            held = camera.position.copy(), event.end_screen_pos
            return
        position, start = held
        height = 2 * float(np.linalg.norm(camera.look_at - camera.position)) * math.tan(camera.fov / 2)
        axes = viser.transforms.SO3(camera.wxyz).as_matrix()
        across, down = (now - then for now, then in zip(event.end_screen_pos, start, strict=True))
        camera.position = position - height * (across * camera.aspect * axes[:, 0] + down * axes[:, 1])
        if event.phase == "end":
            held = None
