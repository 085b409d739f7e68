# SPDX-License-Identifier: Apache-2.0
"""The crop box: handles in the scene for its middle and rotation, numbers for its size."""

from typing import TYPE_CHECKING

import numpy as np
import torch

from neurfield.viewer.look import CropBox, triple

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_EDGES = [(a, b) for a in range(8) for b in range(8) if a < b and (a ^ b) in (1, 2, 4)]


def build(page: "Page") -> None:
    session, gui, scene = page.session, page.client.gui, page.client.scene
    assert session is not None
    if page.viewer.shown.stage is None or not page.viewer.shown.stage.controls.can_crop:
        return
    norm = page.viewer.shown.frame
    side = 1 / norm.scale
    middle = triple(((0.5 - torch.tensor(norm.offset)) / norm.scale).tolist())
    with gui.add_folder("Crop box", expand_by_default=False):
        use = gui.add_checkbox("Crop", False, hint="Draws and exports only what is in the box.")
        size = gui.add_vector3("Size", (0.8 * side,) * 3, min=(1e-6 * side,) * 3, step=0.01 * side)
        center = gui.add_vector3("Middle", middle, step=0.01 * side)
        back = gui.add_button("Whole scene again")
    handles = scene.add_transform_controls("/crop", scale=0.35 * side, position=middle, visible=False, depth_test=False)
    edges = scene.add_line_segments(
        "/crop/edges", points=_segments(size.value), colors=(245, 130, 32), thickness=0.004 * side
    )

    def draw() -> None:
        handles.visible = use.value
        edges.points = _segments(size.value)
        w, x, y, z = map(float, handles.wxyz)
        crop = CropBox(triple(handles.position), triple(size.value), (w, x, y, z))
        session.change(crop=crop if use.value else None)

    def from_numbers() -> None:
        handles.position = center.value
        draw()

    def from_handles() -> None:
        center.value = triple(handles.position)
        draw()

    def reset() -> None:
        use.value, size.value, center.value = False, (0.8 * side,) * 3, middle
        handles.position, handles.wxyz = middle, (1.0, 0.0, 0.0, 0.0)
        draw()

    def toggle() -> None:
        use.value = not use.value  # viser calls draw

    for handle in (use, size):
        handle.on_update(page.guarded(draw))
    center.on_update(page.guarded(from_numbers))
    handles.on_update(page.guarded(from_handles))
    back.on_click(page.guarded(reset))
    page.actions["crop"] = toggle


def _segments(size: tuple[float, float, float]) -> np.ndarray:
    """Edges of a box around the origin, `[12, 2, 3]`."""
    corners = np.array([[(i >> axis & 1) - 0.5 for axis in range(3)] for i in range(8)]) * np.array(size)
    return corners[_EDGES].astype(np.float32)
