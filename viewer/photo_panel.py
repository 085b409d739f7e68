# SPDX-License-Identifier: Apache-2.0
"""The views of the data: as frusta with their images in the scene, and one by one."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
import viser

from neurfield.data.colmap_points import PointCloud
from neurfield.rendering.color import BACKGROUNDS, to_bytes
from neurfield.training.view_set import ViewSet
from neurfield.viewer import marks
from neurfield.viewer.look import viser_pose
from neurfield.viewer.marks import Mark
from neurfield.viewer.photos import Photos, fitted_into
from neurfield.viewer.session import Cancelled

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

MAX_FRUSTA = 200
_COLOR = (245, 130, 32)
_THUMBNAIL = 96  # pixels of the longer side
MAX_POINTS = 200_000
_POINT = 0.004  # of the unit cube's side
_FRUSTUM = 0.06  # of the cameras' median distance from what they look at


def build(page: "Page") -> None:
    session, gui = page.session, page.client.gui
    views, photos = page.viewer.shown.views, page.viewer.shown.photos
    if views is None or photos is None:
        return
    n = len(views.cameras)
    frusta: list[Mark] = []
    with gui.add_folder("Views", expand_by_default=session is None):
        shown = gui.add_checkbox("Cameras in the scene", session is None, hint="Click one to jump to it.")
        if page.viewer.shown.cloud is not None:
            _add_cloud(page, page.viewer.shown.cloud)
        number = gui.add_number("View", 0, min=0, max=max(n - 1, 0), step=1)
        name = gui.add_markdown("")
        go = gui.add_button("Jump to the view")
        if session is None:
            photo = gui.add_image(torch.zeros(8, 8, 3, dtype=torch.uint8).numpy())

    def say_name() -> None:
        where = next((split for split, members in views.splits.items() if number.value in members), "no split")
        path = views.paths[number.value] if number.value < len(views.paths) else ""
        name.content = f"`{path[-48:]}`, {where}, {n} views in all"
        if session is None:
            picture = photos.image(number.value, torch.tensor(BACKGROUNDS["white"]))
            photo.image = to_bytes(picture).numpy()

    def jump() -> None:
        page.jump_to_view(number.value)

    def other(by: int) -> None:
        number.value = (number.value + by) % n
        page.jump_to_view(number.value)

    def show() -> None:
        page.hide_by_depth("/views", shown.value)
        if shown.value and not frusta:
            page.start(lambda: _add_frusta(page, views, photos, frusta, clicked))
        set_visible()

    def set_visible() -> None:
        marks.show(frusta, page.client, shown.value)

    def clicked(view: int) -> None:
        number.value = view
        jump()

    page.on_tick.append(set_visible)
    number.on_update(page.guarded(say_name))
    go.on_click(page.guarded(jump))
    shown.on_update(page.guarded(show))
    page.actions |= {"next view": lambda: other(1), "previous view": lambda: other(-1)}

    def toggle_frusta() -> None:
        shown.value = not shown.value  # viser calls show

    page.actions["cameras"] = toggle_frusta
    page.guarded(say_name)(None)
    if session is None:
        page.guarded(show)(None)


def _add_cloud(page: "Page", cloud: PointCloud) -> None:
    """The points that were found with the cameras, at most MAX_POINTS of them, and a box that hides them."""
    chosen = np.random.default_rng(0).permutation(len(cloud.positions))[:MAX_POINTS]
    handle = page.client.scene.add_point_cloud(
        "/cloud",
        cloud.positions[chosen],
        cloud.colors[chosen],
        point_size=_POINT * page.viewer.shown.home.scale,
        precision="float32",
    )
    box = page.client.gui.add_checkbox("Points in the scene", True, hint="Those that were found with the cameras.")

    def show() -> None:
        handle.visible = box.value

    box.on_update(page.guarded(show))


def _add_frusta(
    page: "Page", views: ViewSet, photos: Photos, frusta: list[Mark], clicked: Callable[[int], None]
) -> None:
    """Adds the views evenly chosen, at most MAX_FRUSTA, then their images, which may take a while."""
    cameras, scene = views.cameras, page.client.scene
    step = max(-(-len(cameras) // MAX_FRUSTA), 1)
    if step > 1:
        page.tell("Many views", f"every {step}. of the {len(cameras)} is in the scene")
    # parallel views and panoramas at one place are at no distance from what they look at
    least = 0.1 * page.viewer.shown.home.scale
    scale = _FRUSTUM * max(float(np.median(abs(cameras.focus().depths))), least)
    chosen = range(0, len(cameras), step)
    for view in chosen:
        width, height = cameras[view].shown_extents[0].tolist()
        wxyz, position = viser_pose(cameras.c2w[view])
        frustum: Mark
        if bool(cameras.is_panorama[view]):
            frustum = scene.add_icosphere(
                f"/views/{view}", 1.0, scale=scale, color=_COLOR, wireframe=True, subdivisions=2,
                wxyz=wxyz, position=position, cast_shadow=False, receive_shadow=False,
            )  # fmt: skip
        else:
            frustum = scene.add_camera_frustum(
                f"/views/{view}", 2 * math.atan(height / 2), width / height, scale=scale, thickness=0.05 * scale,
                color=_COLOR, wxyz=wxyz, position=position, cast_shadow=False, receive_shadow=False,
            )  # fmt: skip
        frustum.on_click(page.guarded(lambda view=view: clicked(view)))  # type: ignore[misc]
        frusta.append(frustum)
    for view, frustum in zip(chosen, list(frusta), strict=True):
        if page.closed.is_set():
            raise Cancelled
        if not isinstance(frustum, viser.CameraFrustumHandle):
            continue
        picture = photos.image(view, torch.tensor(BACKGROUNDS["white"]))
        height, width = picture.shape[:2]
        scale_down = _THUMBNAIL / max(width, height)
        small = fitted_into(picture, max(round(width * scale_down), 1), max(round(height * scale_down), 1))
        frustum.image = to_bytes(small).numpy()
