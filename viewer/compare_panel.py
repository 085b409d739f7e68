# SPDX-License-Identifier: Apache-2.0
"""The data beside the field, right of a line that can be moved."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page


def build(page: "Page") -> None:
    session, gui, stage = page.session, page.client.gui, page.viewer.shown.stage
    if session is None or stage is None or not stage.controls.beside:
        return
    what = stage.controls.beside
    beside = gui.add_checkbox(f"{what[:1].upper()}{what[1:]} beside it", False, hint=f"On the right: the {what}.")
    split = gui.add_slider(f"Share of the {what}", 0.0, 1.0, 0.01, 0.5, visible=False)

    def compare() -> None:
        split.visible = beside.value
        session.change(split=split.value if beside.value else None)

    def toggle() -> None:
        beside.value = not beside.value  # viser calls compare

    beside.on_update(page.guarded(compare))
    split.on_update(page.guarded(compare))
    page.actions["beside"] = toggle
