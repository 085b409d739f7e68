# SPDX-License-Identifier: Apache-2.0
"""The keyboard map; viser itself moves the camera with W A S D Q E and the arrows, and lists commands on Ctrl-K."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

# key: (action of a panel, what it does)
KEYS = {
    **{str(i): (f"mode {i}", f"show way {i} of drawing") for i in range(1, 10)},
    "G": ("beside", "the data beside the field: of a scene, the photo of the nearest training view"),
    "F": ("cameras", "cameras of the data in the scene"),
    "N": ("next view", "jump to the next view of the data"),
    "B": ("previous view", "jump to the view before"),
    "C": ("crop", "crop box"),
    "M": ("mesh", "the mesh that a shape was made from"),
    "V": ("play", "play the video or the moving scene, or pause it"),
    "J": ("coarser", "one level of detail less"),
    "L": ("finer", "one level of detail more"),
    "H": ("home", "back to the first view"),
    "K": ("add key frame", "add a key frame to the camera path"),
    "P": ("play path", "play the camera path"),
    "X": ("screenshot", "save a screenshot"),
    "T": ("pause", "pause the training, or go on"),
}


def build(page: "Page") -> None:
    """Binds the keys whose panels are there."""
    for key, (action, text) in KEYS.items():
        if action in page.actions:
            command = page.client.gui.add_command(text[:1].upper() + text[1:], hotkey=key)  # type: ignore[arg-type]
            command.on_trigger(page.guarded(page.actions[action]))
