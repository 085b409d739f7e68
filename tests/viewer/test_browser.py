# SPDX-License-Identifier: Apache-2.0
"""The viewer in a real browser: a ball coloured by its normal, seen, turned, cropped, exported."""

import io
import json
import math
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

import neurfield
from neurfield.training.radiance_task import RadianceTask
from neurfield.training.trainer import Trainer
from neurfield.training.view_set import ViewSet
from neurfield.viewer import Live, ServeOptions, Viewer, shown_data, shown_run
from neurfield.viewer.photos import Photos
from tests.data.small import write_images
from tests.data.test_colmap import write_text
from tests.scenes import RADIUS, ball_scene
from tests.training.test_trainer import small_config
from tests.viewer.browser import HEIGHT, LEFT, WAIT, WIDTH, Browser


@pytest.fixture
def opened(browser: Any, viewer: Viewer, artefacts: Path, request: pytest.FixtureRequest) -> Iterator[Browser]:
    page = Browser(browser, viewer.url, artefacts, request.node.name)
    yield page
    page.context.close()


def ball(picture: np.ndarray) -> np.ndarray:
    """Pixels left of the panel that show the ball and not the white around it."""
    return (picture[:, :LEFT].max(axis=2) - picture[:, :LEFT].min(axis=2)) > 40


def sees_ball(picture: np.ndarray) -> bool:
    return ball(picture).sum() > 5000


def test_the_ball_has_its_colours_where_they_must_be_and_turns(opened: Browser, viewer: Viewer) -> None:
    # viser brightens its scene in a fraction of a second
    picture = opened.until(lambda p: sees_ball(p) and p[HEIGHT - 60, 100].min() == 255, "opened")
    assert not opened.errors
    # the first view stands at +x: the middle of the ball looks at it, and its upper part is bluer
    centre = picture[HEIGHT // 2, WIDTH // 2]
    assert abs(centre[1] - 128) < 40
    rows = np.nonzero(ball(picture).any(axis=1))[0]
    top, low = (picture[rows[0] + d, WIDTH // 2] for d in (25, len(rows) - 25))
    assert top[2] > low[2] + 60
    assert centre[0] > 200
    outside = [url for url in opened.requests if not url.startswith((viewer.base_url, "data:", "blob:"))]
    assert outside == []
    opened.drag(200, 0)
    opened.until(lambda p: sees_ball(p) and abs(p[HEIGHT // 2, WIDTH // 2] - centre).max() > 40, "turned")


CENTRE, CORNER = (HEIGHT // 2 - 40, WIDTH // 2 - 60), (HEIGHT - 60, 60)
# mode: what its pixel on the ball, which looks at the camera, and its pixel beside the ball are
LOOKS: dict[str, Callable[[np.ndarray, np.ndarray], bool]] = {
    "depth": lambda on, beside: on[1] > 190 and beside.min() > 250,  # near is light
    "normals": lambda on, beside: on[0] > 190 and abs(beside - 128).max() < 8,  # the normal is nearly +x
    "opacity": lambda on, beside: on.min() > 235 and beside.max() < 8,
    "occupancy": lambda on, beside: 110 < on[0] < 230 and beside.min() > 250,
    "cost": lambda on, beside: on.max() > 100 and beside.max() < 40,
    "error": lambda on, beside: on.max() < 120 and abs(beside - 38).max() < 8,  # bars beside a square photo
}


def test_every_way_of_drawing_and_the_photo_beside(opened: Browser, viewer: Viewer) -> None:
    opened.until(sees_ball, "colour")
    assert viewer.shown.stage is not None
    modes = list(viewer.shown.stage.modes)
    assert modes == ["colour", *LOOKS]
    for mode, right in LOOKS.items():
        opened.press(str(modes.index(mode) + 1))
        opened.until(lambda p, right=right: bool(right(p[CENTRE], p[CORNER])), mode)  # type: ignore[misc]
    opened.press("1")
    opened.until(lambda p: sees_ball(p) and p[CORNER].min() > 250, "colour again")
    opened.press("g")
    # the photo is square: dark bars on both sides
    picture = opened.until(lambda p: p[HEIGHT - 60, 60].max() < 80, "beside")
    left, right = picture[HEIGHT // 2, WIDTH // 2 - 30], picture[HEIGHT // 2, WIDTH // 2 + 30]
    assert abs(left - right).max() < 60


def test_crop_box_is_dragged_and_cuts_the_ball(opened: Browser, viewer: Viewer) -> None:
    whole = opened.until(lambda p: sees_ball(p) and p[CORNER].min() > 250, "whole")  # viser has brightened its scene
    opened.press("c")
    opened.until(lambda p: (abs(p - whole)[:, :LEFT].max(axis=2) > 60).sum() > 1000, "box")  # its handles and edges
    (page,) = viewer.pages.values()
    focal = HEIGHT / 2 / math.tan(page.client.camera.fov / 2)
    arrow = HEIGHT / 2 - 0.9 * 0.35 / 0.33 * focal / 3.0  # of +z: its length, of the unit cube, seen from 3
    opened.page.mouse.move(WIDTH / 2, arrow)
    opened.page.mouse.down()
    opened.page.mouse.move(WIDTH / 2, arrow + 200, steps=10)
    opened.page.mouse.up()
    assert page.session is not None
    session = page.session

    def is_dragged() -> bool:
        crop = session.look.crop
        return crop is not None and crop.center[2] < -0.5

    assert opened.soon(is_dragged), f"the handle was not dragged: {session.look.crop}"
    crop = session.look.crop
    assert crop is not None
    # the upper side of the box, 0.4 of the unit cube above its middle, is below the top of the ball now
    assert crop.center[2] + crop.size[2] / 2 < 0.72
    # the column left of the handles is white down to the cut
    cut = int(HEIGHT / 2 - 0.72 / 3.0 * focal)
    opened.until(lambda p: bool((p[150 : cut - 8, WIDTH // 2 - 40] > 225).all()), "cut")


def test_key_frames_make_a_video(opened: Browser, viewer: Viewer, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    opened.until(sees_ball, "before")
    opened.tab("Path")
    opened.button("Add key frame").click()
    opened.drag(150, 20)
    opened.page.wait_for_timeout(400)
    opened.button("Add key frame").click()
    opened.page.wait_for_timeout(300)
    saved = json.loads(opened.download("Save path"))
    assert len(saved["keyframes"]) == 2 and len(saved["camera_path"]) == 120
    saved |= {"fps": 10, "seconds": 0.5, "render_width": 160, "render_height": 96}
    saved["camera_path"] = saved["camera_path"][:5]
    file = tmp_path / "short.json"
    file.write_text(json.dumps(saved))
    with opened.page.expect_file_chooser() as chooser:
        opened.button("Load path").click()
    chooser.value.set_files(file)
    opened.page.wait_for_timeout(500)
    opened.keep("loaded")
    video = tmp_path / "video.mp4"
    video.write_bytes(opened.download("Render video"))
    with av.open(str(video)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5 and frames[0].shape == (96, 160, 3)
    assert abs(frames[0].astype(int) - frames[-1]).mean() > 1  # the camera moved


def test_files_from_the_page(opened: Browser, viewer: Viewer) -> None:
    opened.until(sees_ball, "before")
    opened.tab("Export")
    (served,) = viewer.pages.values()
    for old, value in ((256, 64), (1280, 480), (720, 270)):  # small files, for speed
        opened.number(served.client.gui, old, value)
    shot = Image.open(io.BytesIO(opened.download("Save PNG")))
    assert shot.size == (480, 270)
    middle = np.asarray(shot.convert("RGB"))[135, 240].astype(int)
    assert middle[0] > 200 and abs(middle[1] - 128) < 40
    mesh = trimesh.load(io.BytesIO(opened.download("Save mesh")), file_type="glb", force="mesh")
    extent = np.ptp(mesh.vertices, axis=0)
    assert abs(extent - 2 * RADIUS).max() < 0.25
    points = trimesh.load(io.BytesIO(opened.download("Save point cloud (.ply)")), file_type="ply")
    radius = np.linalg.norm(points.vertices, axis=1)
    assert abs(np.median(radius) - RADIUS) < 0.1
    page = opened.download("Save web page (.html)").decode()
    assert page.startswith("<!doctype html>") and "<title>ball</title>" in page
    if find_spec("xatlas"):
        opened.page.get_by_label("Colours").first.click()
        opened.page.get_by_role("option", name="texture of 1024").click()
        (textured,) = trimesh.load(io.BytesIO(opened.download("Save mesh")), file_type="glb").geometry.values()
        assert textured.visual.material.baseColorTexture.size == (1024, 1024)
    opened.button("Show it in the scene").click()
    opened.page.get_by_text("Mesh is shown").wait_for(timeout=WAIT * 1000)
    opened.page.wait_for_timeout(500)
    opened.keep("mesh")


def test_two_pages_have_their_own_cameras(opened: Browser, browser: Any, viewer: Viewer, artefacts: Path) -> None:
    opened.until(sees_ball, "first")
    other = Browser(browser, viewer.url, artefacts, "test_two_pages_second")
    other.until(sees_ball, "opened")
    other.press("4")
    other.drag(200, 30)
    other.until(lambda p: p[HEIGHT - 60, 100].max() < 30, "opacity")  # black around
    opened.page.wait_for_timeout(300)
    assert tuple(opened.picture()[HEIGHT - 60, 100]) == (255, 255, 255)
    assert len(viewer.pages) == 2
    other.context.close()
    assert opened.soon(lambda: len(viewer.pages) == 1)


def test_reconnects_after_the_server_restarts(browser: Any, run: neurfield.Run, artefacts: Path) -> None:
    with Viewer(shown_run(run), ServeOptions(port=0)) as first:
        port = first.gate.port
        page = Browser(browser, first.url, artefacts, "test_reconnects")
        page.until(sees_ball, "before")
    with Viewer(shown_run(run), ServeOptions(port=port)) as second:
        assert page.soon(lambda: bool(second.pages))

        def is_black_around(picture: np.ndarray) -> bool:
            page.press("4")  # opacity; again, since a page that has just connected may not hear the first one
            return bool(picture[HEIGHT - 60, 100].max() < 30)

        page.until(is_black_around, "after")
        page.context.close()


def test_is_refused_without_the_token(browser: Any, run: neurfield.Run, artefacts: Path) -> None:
    with Viewer(shown_run(run), ServeOptions(port=0, token="auto", path_prefix="/see")) as viewer:
        page = Browser(browser, viewer.base_url, artefacts, "test_refused")
        assert page.response.status == 403 and "token" in page.page.inner_text("body")
        assert not viewer.pages and viewer.gate.n_rejected >= 1
        page.page.goto(viewer.url)
        page.until(sees_ball, "with_token")
        assert viewer.gate.token not in page.page.url
        page.context.close()


def test_data_without_a_field(browser: Any, data: Path, artefacts: Path) -> None:
    with Viewer(shown_data(data), ServeOptions(port=0)) as viewer:
        page = Browser(browser, viewer.url, artefacts, "test_data")
        # frusta with photos of the ball; the note in the upper left corner is not meant
        orange = lambda p: (p.max(axis=2) - p.min(axis=2) > 60)[200:, :LEFT].sum() > 300  # noqa: E731
        page.until(orange, "cameras")
        page.context.close()


def test_the_points_of_a_model_are_shown_and_hidden(browser: Any, tmp_path: Path, artefacts: Path) -> None:
    write_images(tmp_path, 4)
    model = write_text(tmp_path / "sparse/0", 4)
    # a green ball where the cameras look at
    points = np.random.default_rng(0).normal(size=(6000, 3)) * 0.6
    lines = [f"{i} {x:.3f} {y:.3f} {z:.3f} 0 255 0 0.1" for i, (x, y, z) in enumerate(points)]
    (model / "points3D.txt").write_text("\n".join(lines) + "\n")

    def green(page: np.ndarray) -> int:
        return int(((page[..., 1] > 150) & (page[..., 0] < 60) & (page[..., 2] < 60))[:, :LEFT].sum())

    with Viewer(shown_data(tmp_path), ServeOptions(port=0)) as viewer:
        page = Browser(browser, viewer.url, artefacts, "test_points")
        page.until(lambda p: green(p) > 1000, "points")
        page.page.get_by_label("Points in the scene").click()
        page.until(lambda p: green(p) < 200, "no points")
        assert not page.errors
        page.context.close()


def test_a_training_is_watched_paused_and_ended(browser: Any, artefacts: Path, data: Path) -> None:
    scene = ball_scene(16, 2, 32)
    config = small_config(steps=100_000)
    task = RadianceTask(scene, config)
    trainer = Trainer(task, config)
    views = ViewSet.of_scene(scene)
    live = Live(trainer)
    run = neurfield.Run(config, views, task.field, task.grid, 0)
    shown = shown_run(run, Photos(lambda: scene), lambda: trainer.step)
    with Viewer(shown, ServeOptions(port=0), live) as viewer:
        page = Browser(browser, viewer.url, artefacts, "test_training")

        def train() -> None:
            with live:
                trainer.train(live.on_step)

        thread = threading.Thread(target=train)
        thread.start()
        try:
            page.until(sees_ball, "learning")
            page.button("Pause").click()
            page.page.get_by_text("paused").wait_for(timeout=WAIT * 1000)
            step = trainer.step
            page.drag(150, 0)
            page.page.wait_for_timeout(800)
            page.keep("paused")
            assert trainer.step <= step + 1
            page.button("Resume").click()
            assert page.soon(lambda: trainer.step > step + 1)
            page.button("Stop").click()
            thread.join(WAIT)
            assert not thread.is_alive() and not trainer.interrupted
            page.page.get_by_text("done").wait_for(timeout=WAIT * 1000)
            page.keep("done")
        finally:
            live.stop()
            thread.join(WAIT)
            page.context.close()
