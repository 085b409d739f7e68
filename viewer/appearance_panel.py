# SPDX-License-Identifier: Apache-2.0
"""Which photo's look a field has that tells photos apart."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page


def build(page: "Page") -> None:
    session, gui, stage = page.session, page.client.gui, page.viewer.shown.stage
    if session is None or stage is None or stage.controls.n_appearances < 1:
        return
    last, linked = stage.controls.n_appearances - 1, page.linked.get("appearance")
    own = gui.add_checkbox("Look of a photo", linked is not None, hint="Otherwise the mean of all photos.")
    number = gui.add_slider(
        "Appearance", 0, max(last, 1), 1, min(int(linked or 0), last), visible=own.value, disabled=last == 0,
        hint="Number of the training view.",
    )  # fmt: skip

    def draw() -> None:
        number.visible = own.value
        session.change(appearance=min(int(number.value), last) if own.value else None)

    own.on_update(page.guarded(draw))
    number.on_update(page.guarded(draw))
    draw()
