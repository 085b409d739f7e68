# SPDX-License-Identifier: Apache-2.0
"""How the field is drawn, and what the pictures cost."""

import math
import resource
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from neurfield.memory import readable
from neurfield.rendering.outputs import COLOR_MAPS

if TYPE_CHECKING:
    from neurfield.viewer.page import Page

_FOV_RANGE, _FOV_STEP = (1.0, 170.0), 0.5  # degrees, those that key frames may have
MAX_LONGEST = 2048  # of pictures in the page; files may be larger


def build(page: "Page") -> None:
    session, stage = page.session, page.viewer.shown.stage
    assert session is not None and stage is not None
    gui = page.client.gui
    statistics = gui.add_markdown("")
    mode = gui.add_dropdown("Show", tuple(stage.modes), initial_value=session.look.mode, hint=_text(stage.modes))
    colors = gui.add_dropdown("Colours", tuple(COLOR_MAPS), initial_value="warm", visible=False)
    own_range = gui.add_checkbox("Fixed range", False, visible=False, hint="Otherwise each picture uses all colours.")
    near = gui.add_number("Nearest", 0.0, min=0.0, step=0.01, visible=False)
    far = gui.add_number("Farthest", 10.0, min=0.0, step=0.01, visible=False)
    n_levels = stage.controls.n_levels
    level = gui.add_slider(
        "Levels of detail", 1, max(n_levels, 2), 1, max(n_levels, 2), visible=n_levels > 1,
        hint="Of the field's grid, from the coarsest on.",
    )  # fmt: skip
    own_background = gui.add_checkbox("Own background", False, hint="Otherwise the one it was made with.")
    background = gui.add_rgb("Background", (255, 255, 255), visible=False)
    fov = gui.add_slider("Field of view", *_FOV_RANGE, _FOV_STEP, _shown_fov(page))
    longest = gui.add_slider("Largest picture", 128, MAX_LONGEST, 64, session.look.longest, hint="Pixels, longer side.")
    home = gui.add_button("First view", hint="Back to where the page began.")
    link = gui.add_button("Link to this view", hint="Shows a link that opens the viewer with what is seen here.")

    def draw() -> None:
        for handle in (colors, own_range):
            handle.visible = mode.value == "depth"
        for handle in (near, far):
            handle.visible = mode.value == "depth" and own_range.value
        background.visible = own_background.value
        session.change(
            mode=mode.value,
            colors=colors.value,
            depth_range=(near.value, max(far.value, near.value + 1e-3)) if own_range.value else None,
            background=tuple(c / 255 for c in background.value) if own_background.value else None,
            longest=min(max(int(longest.value), 16), MAX_LONGEST),
            level=int(level.value) if 1 <= level.value < n_levels else None,
        )

    for handle in (mode, colors, own_range, near, far, level, own_background, background, longest):
        handle.on_update(page.guarded(draw))

    def set_fov() -> None:
        # when the slider only follows the camera, its rounding must not move it
        if abs(math.degrees(page.client.camera.fov) - fov.value) > _FOV_STEP:
            page.client.camera.fov = math.radians(fov.value)

    fov.on_update(page.guarded(set_fov))

    def show_link() -> None:
        page.tell("This view", f"{link_to(page)}")

    link.on_click(page.guarded(show_link))
    home.on_click(page.guarded(page.jump_home))
    page.actions["home"] = page.jump_home

    def other_level(by: int) -> None:
        level.value = min(max(level.value + by, 1), n_levels)  # viser calls draw

    if n_levels > 1:
        page.actions |= {"finer": lambda: other_level(1), "coarser": lambda: other_level(-1)}
    for i, name in enumerate(stage.modes):

        def choose(name: str = name) -> None:
            mode.value = name  # viser calls draw

        page.actions[f"mode {i + 1}"] = choose

    def tick() -> None:
        if abs(_shown_fov(page) - fov.value) > _FOV_STEP:
            fov.value = _shown_fov(page)  # a jump, or the page's first camera
        now = session.statistics()
        text = f"{now.size[0]} × {now.size[1]}, "
        text += f"{now.n_passes} rays per pixel" if now.n_passes else f"{now.fps:.0f} pictures/s"
        text += f"  \nwait {now.wait * 1e3:.0f}, render {now.render * 1e3:.0f}, send {now.send * 1e3:.0f} ms, "
        text += f"{now.rays_per_second / 1e6:.2f} M rays/s"
        if now.samples_per_ray is not None:
            text += f"  \n{now.samples_per_ray:.1f} samples per ray"
        text += f", {readable(_memory())} in use"
        text += f"  \n{now.note}" if now.note else ""
        if statistics.content != text:
            statistics.content = text

    page.on_tick.append(tick)


def link_to(page: "Page") -> str:
    """A link that opens the viewer with the camera, the time and the appearance of this page."""
    camera, shown = page.client.camera, page.viewer.shown
    look: dict[str, float] = {}
    if page.session is not None and shown.stage is not None:
        if shown.stage.controls.is_dynamic or shown.stage.controls.n_frames > 1:
            look["time"] = page.session.look.time
        if page.session.look.appearance is not None:
            look["appearance"] = page.session.look.appearance

    def numbers(values: Iterable[float]) -> str:
        return ",".join(f"{float(v):.5g}" for v in values)

    return page.viewer.link(
        look,
        initialCameraPosition=numbers(camera.position),
        initialCameraLookAt=numbers(camera.look_at),
        initialCameraUp=numbers(camera.up_direction),
        initialCameraFov=f"{camera.fov:.5g}",
    )


def _shown_fov(page: "Page") -> float:
    """The camera's field of view in degrees, as the slider shows it."""
    degrees = math.degrees(page.client.camera.fov)
    return min(max(round(degrees / _FOV_STEP) * _FOV_STEP, _FOV_RANGE[0]), _FOV_RANGE[1])


def _memory() -> int:
    """Bytes of this process that are in memory; where the system does not say, the most there ever were."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * resource.getpagesize()
    except OSError:
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _text(modes: Mapping[str, str]) -> str:
    return "\n".join(f"{name}: {text}" for name, text in modes.items())
