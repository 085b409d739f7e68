# SPDX-License-Identifier: Apache-2.0
"""Moving scenes and looks of photos in the viewer: the stage, links, and a real browser."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh

import neurfield
from neurfield.cameras.keyframes import KeyframePath, read_keyframes
from neurfield.viewer import ServeOptions, Viewer, linked, shown_run
from neurfield.viewer.bare import shown_field
from neurfield.viewer.look import Look
from tests.scenes import MOVING_RADIUS, moving_middle, moving_scene, write_transforms
from tests.training.test_appearance import LOOKS, gains, tinted_scene
from tests.training.test_dynamic import SMALL_DYNAMIC
from tests.viewer.browser import HEIGHT, LEFT, MIDDLE, WAIT, Browser, without_shadows
from tests.viewer.conftest import METHOD
from tests.viewer.wire import WirePage

# fog is punished, so that seconds of training make a surface
CLEAR = ("loss.distortion=0.05", "loss.opacity_entropy=0.001", "sampler.render_step_scale=2")


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> neurfield.Run:
    data = write_transforms(moving_scene(24, 2, 48), tmp_path_factory.mktemp("viewer") / "moving")
    return neurfield.train(neurfield.load_scene(data), overrides=(*SMALL_DYNAMIC, *CLEAR), max_num_iterations=500)


@pytest.fixture(scope="module")
def tinted(tmp_path_factory: pytest.TempPathFactory) -> neurfield.Run:
    data = write_transforms(tinted_scene(), tmp_path_factory.mktemp("viewer") / "tinted")
    return neurfield.train(neurfield.load_scene(data), "ngp-fast", overrides=(*METHOD, *LOOKS), max_num_iterations=300)


def no_step(part: float) -> None:
    pass


def dark(image: Any) -> np.ndarray:
    """Where a picture has something on its white background."""
    return np.asarray(image).min(axis=2) < (0.8 if float(np.asarray(image).max()) <= 1 else 200)


def test_every_mode_follows_the_time(moving: neurfield.Run) -> None:
    stage, camera = shown_run(moving).stage, moving.cameras[0]
    assert stage is not None and stage.controls.is_dynamic and stage.controls.n_appearances == 0
    for mode in stage.modes:
        early, late = (stage.paint(camera, Look(mode, time=time), no_step, True).image for time in (0.0, 1.0))
        if mode == "error":
            continue  # is of the time of a photo
        same = mode in ("occupancy", "cost")  # of the cells, which are those of all times
        assert torch.equal(early, late) is same, mode


def test_the_photo_beside_is_of_about_the_time(moving: neurfield.Run) -> None:
    stage = shown_run(moving).stage
    camera = replace(moving.cameras[0], times=torch.tensor([0.9]))
    nearest = stage.nearest(camera)  # type: ignore[union-attr]
    assert nearest is not None and abs(float(moving.cameras.times[nearest]) - 0.9) < 0.5


def test_files_are_of_the_time_of_the_page(moving: neurfield.Run, tmp_path: Path) -> None:
    exports = shown_run(moving).exports
    assert exports is not None
    exports.mesh(Look(time=1.0), tmp_path / "mesh.ply", 48, no_step)
    exports.points(Look(time=0.0), tmp_path / "points.ply", 2000, no_step)
    for file, time in (("mesh.ply", 1.0), ("points.ply", 0.0)):
        middle = np.median(trimesh.load(tmp_path / file).vertices, axis=0)
        assert np.abs(middle - moving_middle(time)).max() < 0.6 * MOVING_RADIUS, file
    assert exports.page is not None
    exports.page(Look(time=1.0), tmp_path / "page.html")
    assert '"seconds": 4' in (tmp_path / "page.html").read_text()  # but a page, which is of all times


def test_a_moving_field_of_no_run(moving: neurfield.Run) -> None:
    stage = shown_field(moving.field).stage
    assert stage is not None and stage.controls.is_dynamic
    norm = moving.views.normalization
    camera = moving.cameras[0].transformed(norm.scale, torch.tensor(norm.offset))
    early, late = (dark(stage.paint(camera, Look(time=time), no_step, True).image) for time in (0.0, 1.0))
    assert (early != late).mean() > 0.02


def test_looks_are_chosen_and_the_error_has_the_photos_own(tinted: neurfield.Run) -> None:
    stage, camera = shown_run(tinted).stage, tinted.cameras[0]
    assert stage is not None and stage.controls.n_appearances == 20 and not stage.controls.is_dynamic
    order = gains().mean(1).argsort().tolist()
    means = [
        stage.paint(camera, Look(appearance=look, background=(0.0, 0.0, 0.0)), no_step, True).image.mean()
        for look in (order[0], None, order[-1])
    ]
    assert means[0] < means[1] < means[2]
    # the error is that of the look of the photo, whichever the page shows
    view = tinted.views.views("train")[order[0]]
    shown = [
        stage.paint(tinted.cameras[view], Look("error", appearance=look), no_step, True).image
        for look in (None, order[-1])
    ]
    assert torch.equal(*shown)


@pytest.mark.parametrize(
    ("path", "left", "values"),
    [
        ("/", "/", {}),
        ("/look/time=0.25/", "/", {"time": 0.25}),
        ("/look/time=0.25&appearance=3", "/", {"time": 0.25, "appearance": 3}),
        ("/look/appearance=3/health", "/health", {"appearance": 3}),
        ("/look/time=nan&appearance=-1/", "/", {}),
        ("/look/time=1.5&appearance=2.5&other=1/", "/", {}),
        ("/look/../x/", "/x/", {}),
        ("/look/a b/", "/look/a b/", {}),
        ("/looks/time=1/", "/looks/time=1/", {}),
    ],
)
def test_what_a_path_says(path: str, left: str, values: dict[str, float]) -> None:
    assert linked.taken_out(path) == left
    assert linked.parsed(linked.TEXT.get()) == values


def test_links_go_there_and_back() -> None:
    path = linked.path_of({"time": 0.125, "appearance": 7})
    assert path == "look/time=0.125&appearance=7/" and linked.path_of({}) == ""
    linked.taken_out(f"/{path}")
    assert linked.parsed(linked.TEXT.get()) == {"time": 0.125, "appearance": 7}


def test_a_page_opens_at_the_time_of_its_link(moving: neurfield.Run) -> None:
    with Viewer(shown_run(moving), ServeOptions(port=0, path_prefix="/a")) as viewer:
        with WirePage(viewer.link({"time": 0.75})) as page:
            page.look_from(moving.cameras.c2w[0])
            page.frame()
            (served,) = viewer.pages.values()
            assert served.session is not None and served.session.look.time == pytest.approx(0.75)
        with WirePage(viewer.base_url) as page:
            page.look_from(moving.cameras.c2w[0])
            page.frame()
            served = list(viewer.pages.values())[-1]
            assert served.session is not None and served.session.look.time == 0.0


def test_the_time_runs_along_a_path_and_in_its_file(tmp_path: Path) -> None:
    poses = moving_scene(3).cameras.c2w[:3]
    path = KeyframePath(poses, torch.full((3,), 50.0), seconds=1, fps=5)
    assert path.cameras().times.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert replace(path, time=0.3).cameras().times.tolist() == pytest.approx([0.3] * 5)
    (tmp_path / "p.json").write_text(path.dumps())
    from neurfield.cameras.path_files import read_camera_path

    found = read_camera_path(tmp_path / "p.json")
    assert found.has_times and found.cameras.times.tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert len(read_keyframes(tmp_path / "p.json").poses) == 3


@pytest.fixture
def opened(browser: Any, artefacts: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    things: list[Any] = []

    def open_page(run: neurfield.Run, look: dict[str, float] | None = None) -> tuple[Browser, Viewer]:
        viewer = Viewer(shown_run(run), ServeOptions(port=0))
        without_shadows(viewer)
        page = Browser(browser, viewer.link(look), artefacts, request.node.name)
        things.extend((page.context, viewer))
        return page, viewer

    yield open_page
    for thing in things:
        thing.close()


def area(page: np.ndarray) -> int:
    """Pixels that are neither background nor panel, where viser's note is not."""
    return int((np.ptp(page[200:400, :LEFT], axis=2) > 60).sum())


def at_rest(page: Browser, condition: Callable[[np.ndarray], bool], what: str) -> int:
    """The area, once the condition holds and four pictures in a row have it: viser brightens its scene for a while, and
    coarse and fine pictures differ by a few per cent."""
    areas: list[int] = []

    def rests(picture: np.ndarray) -> bool:
        areas.append(area(picture))
        return condition(picture) and len(areas) > 3 and np.ptp(areas[-4:]) <= 0.02 * areas[-1]

    return area(page.until(rests, what))


def test_a_moving_scene_is_seen_at_its_times_and_played(opened: Any, moving: neurfield.Run) -> None:
    page, viewer = opened(moving)
    # the ball comes towards the camera
    first = at_rest(page, lambda p: area(p) > 1000 and p[HEIGHT - 60, 100].min() == 255, "time 0")
    (served,) = viewer.pages.values()
    session = served.session
    assert session is not None
    assert page.page.get_by_text("Time", exact=True).count() == 1
    slider = page.page.locator('[role=slider][aria-valuemax="1"]').first
    slider.focus()
    slider.press("End")
    last = at_rest(page, lambda p: area(p) > 1.4 * first, "time 1")
    assert session.look.time == 1.0
    slider.press("Home")
    page.until(lambda p: area(p) < 0.8 * last, "time 0 again")
    page.press("v")
    times = set[float]()
    assert page.soon(lambda: times.add(session.look.time) or len(times) > 4)
    assert all(0 <= time <= 1 for time in times)
    page.keep("playing")
    page.button("Pause").click()
    page.button("Play").wait_for(timeout=WAIT * 1000)
    modes = list(viewer.shown.stage.modes)
    for mode in (*modes[1:], modes[0]):
        before = page.picture()
        page.press(str(modes.index(mode) + 1))
        page.until_changed(before, mode)
    assert not page.errors


def test_a_link_opens_the_time_in_a_browser(opened: Any, moving: neurfield.Run) -> None:
    page, viewer = opened(moving, {"time": 1.0})
    page.until(lambda p: area(p) > 1000, "time 1")
    (served,) = viewer.pages.values()
    assert served.session is not None and served.session.look.time == 1.0
    page.button("Link to this view").click()
    page.page.get_by_text("look/time=1/").first.wait_for(timeout=WAIT * 1000)
    assert not page.errors


def test_a_look_is_chosen_in_a_browser(opened: Any, tinted: neurfield.Run) -> None:
    order = gains().mean(1).argsort().tolist()
    x, y = MIDDLE
    page, _ = opened(tinted, {"appearance": order[0]})

    def shade(p: np.ndarray) -> float:
        return float(p[y - 5 : y + 5, x - 5 : x + 5].mean())

    dim = shade(page.until(lambda p: shade(p) < 80, "the darkest"))  # the mean of all, which may come first, has 100
    page.page.get_by_label("Look of a photo").click()
    page.until(lambda p: shade(p) > dim + 15, "the mean")
    assert not page.errors
