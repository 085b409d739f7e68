# SPDX-License-Identifier: Apache-2.0
"""Where a volume is cut, and which of its values are black and white."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_AXES = "xyz"
_WINDOW_STEPS = 1000


def build(page: "Page") -> None:
    session, gui, stage = page.session, page.client.gui, page.viewer.shown.stage
    if session is None or stage is None or not stage.controls.sections:
        return
    sizes, values = stage.controls.sections, stage.controls.values
    assert values is not None and len(sizes) == len(_AXES)
    places, switches = [], []
    for name, size in zip(_AXES, sizes, strict=True):
        hint = f"Sample along {name}."
        places.append(
            gui.add_slider(f"Across {name}", 0, max(size - 1, 1), 1, size // 2, disabled=size == 1, hint=hint)
        )
    for name in _AXES:
        switches.append(gui.add_checkbox(f"Section across {name}", True))
    low, high = values
    # whole numbers, so that a slider of large values has fine steps
    window = gui.add_multi_slider(
        "Window, %", 0, _WINDOW_STEPS, 1, (0, _WINDOW_STEPS), min_range=1,
        hint=f"Black and white, as parts of a thousand of {low:g} ... {high:g}.",
    )  # fmt: skip
    shown = gui.add_markdown("")

    def draw() -> None:
        sections = tuple(
            (min(place.value, size - 1) + 0.5) / size if switch.value else None
            for place, switch, size in zip(places, switches, sizes, strict=True)
        )
        black, white = (low + value / _WINDOW_STEPS * (high - low) for value in window.value)
        shown.content = f"black {black:.6g}, white {white:.6g}"
        session.change(sections=sections, window=(black, white))

    for handle in (*places, *switches, window):
        handle.on_update(page.guarded(draw))
    page.guarded(draw)(None)
