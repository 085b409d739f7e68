# SPDX-License-Identifier: Apache-2.0
"""The mesh that a distance field is of, in the scene: beside the field, or alone before there is one."""

from typing import TYPE_CHECKING

import viser

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_NAME = "/triangles"
_COLOR = (200, 200, 205)


def build(page: "Page") -> None:
    triangles, frame, gui = page.viewer.shown.triangles, page.viewer.shown.frame, page.client.gui
    if triangles is None:
        return
    is_alone = page.session is None
    handle: viser.MeshHandle | None = None
    with gui.add_folder("Mesh it is made from", expand_by_default=is_alone):
        text = gui.add_markdown(triangles.signal.info.describe() if is_alone else "")
        shown = gui.add_checkbox("In the scene", is_alone)
        wires = gui.add_checkbox("Edges only", False)
        shift = gui.add_slider("Aside by", -1.5, 1.5, 0.05, 0.0 if is_alone else -1.0, hint="In widths of the cube.")

    def add() -> None:
        nonlocal handle
        vertices, faces = triangles.in_world()
        text.content = triangles.signal.info.describe()
        handle = page.client.scene.add_mesh_simple(
            _NAME, vertices, faces, color=_COLOR, wireframe=wires.value, flat_shading=True, side="double",
            position=(shift.value / frame.scale, 0.0, 0.0),
        )  # fmt: skip

    def draw() -> None:
        page.hide_by_depth(_NAME, shown.value)
        if handle is None and shown.value:
            page.start(add)
        elif handle is not None:
            handle.visible, handle.wireframe = shown.value, wires.value
            handle.position = (shift.value / frame.scale, 0.0, 0.0)

    def toggle() -> None:
        shown.value = not shown.value  # viser calls draw

    for control in (shown, wires, shift):
        control.on_update(page.guarded(draw))
    page.actions["mesh"] = toggle
    if is_alone:
        page.guarded(draw)(None)
