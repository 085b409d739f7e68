# SPDX-License-Identifier: Apache-2.0
"""A picture of what the page shows, of any size, as PNG."""

import io
from typing import TYPE_CHECKING

from PIL import Image

from neurfield.errors import UserError
from neurfield.viewer.job import Job

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

MAX_SIDE = 4096


def build(page: "Page") -> None:
    gui = page.client.gui
    with gui.add_folder("Screenshot"):
        size = gui.add_vector2("Size", (1280, 720), min=(16, 16), max=(MAX_SIDE, MAX_SIDE), step=1)
        shoot = gui.add_button("Save PNG", hint="The field alone, as it is shown, smooth.")
        job = Job(page, "Cancel the picture")

    def screenshot() -> None:
        width, height = (int(side) for side in size.value)
        if not 1 <= min(width, height) <= max(width, height) <= MAX_SIDE:
            raise UserError(f"a screenshot has 1 ... {MAX_SIDE} pixels on each side, got {width} x {height}")
        picture = page.paint(page.eye.camera(width, height), job.step)
        data = io.BytesIO()
        Image.fromarray(picture.numpy()).save(data, "PNG")
        page.client.send_file_download("screenshot.png", data.getvalue(), save_immediately=True)

    shoot.on_click(page.guarded(lambda: job.start(screenshot)))
    page.actions["screenshot"] = lambda: job.start(screenshot)
