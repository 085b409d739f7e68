# SPDX-License-Identifier: Apache-2.0
"""Pictures, clips, volumes and shapes in a real browser: seen, zoomed, moved, played, cut, compared, exported."""

import io
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from PIL import Image

import neurfield
from neurfield.data import signals
from neurfield.signal_kinds import KINDS
from neurfield.signal_run import SignalRun
from neurfield.training.signal_method import SignalRunConfig, load_signal_method
from neurfield.training.trainer import Trainer
from neurfield.viewer import Live, ServeOptions, Viewer, shown_data, shown_run
from neurfield.viewer.session import OFFSETS
from tests.signals.files import picture
from tests.viewer.browser import HEIGHT, LEFT, MIDDLE, WAIT, WIDTH, Browser, differ, without_shadows
from tests.viewer.conftest import SIGNAL_SETS

Open = Callable[..., tuple[Browser, Viewer]]


@pytest.fixture
def opened(browser: Any, artefacts: Path, request: pytest.FixtureRequest) -> Iterator[Open]:
    """Opens a page of something."""
    things: list[Any] = []

    def open_page(shown: Any, live: Live | None = None) -> tuple[Browser, Viewer]:
        viewer = Viewer(shown, ServeOptions(port=0), live)
        without_shadows(viewer)
        page = Browser(browser, viewer.url, artefacts, request.node.name.replace("[", "_").replace("]", ""))
        things.extend((page.context, viewer))
        return page, viewer

    yield open_page
    for thing in things:
        thing.close()


def wheel(page: Browser, by: int) -> None:
    page.page.mouse.move(WIDTH // 2, HEIGHT // 2)
    page.page.mouse.wheel(0, by)
    page.page.wait_for_timeout(100)


SCALE = HEIGHT / 0.825  # pixels of the page for the longer side of the picture, as a page begins


def expected(x: int, y: int) -> np.ndarray:
    """What the picture has at a pixel of a page that has just begun."""
    u, v = (x - WIDTH / 2) / SCALE + 0.5, (y - HEIGHT / 2) / (0.75 * SCALE) + 0.5
    return picture(96, 128)[int(v * 96), int(u * 128)]


def close(page: np.ndarray, colors: dict[tuple[int, int], np.ndarray], within: int = 30) -> bool:
    return all(abs(page[y, x] - color).max() < within for (x, y), color in colors.items())


# viser's note about software rendering covers the upper left corner, the panel what is right of LEFT
PLACES = [(120, 300), (200, 400), (400, 200), (430, 420)]


def test_an_image_is_seen_zoomed_and_moved(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, viewer = opened(shown_run(signal_runs["image"]))
    colors = {place: expected(*place) for place in PLACES}
    before = page.until(lambda p: close(p, colors), "opened")
    assert not page.errors
    assert [url for url in page.requests if not url.startswith((viewer.base_url, "data:", "blob:"))] == []
    # dragging takes the picture along
    page.drag(100, -40)
    moved = {(x + 100, y - 40): before[y, x] for x, y in ((120, 300), (200, 400), (300, 260))}
    page.until(lambda p: close(p, moved), "dragged")
    page.press("h")
    page.until(lambda p: close(p, colors), "home")
    # the wheel zooms towards the middle, and what is seen stays as fine as the page
    (served,) = viewer.pages.values()
    distance = served.client.camera.position[2]
    for _ in range(5):
        wheel(page, -600)
    middle = picture(96, 128)[48, 64]
    near = lambda: served.client.camera.position[2] < distance / 3  # noqa: E731
    page.until(lambda p: near() and abs(p[HEIGHT // 2, WIDTH // 2] - middle).max() < 60, "zoomed")
    session = served.session
    assert session is not None
    # viser lowers the size of its canvas where the browser is slow
    page.until(lambda p: session.statistics().size == (session.eye.width, session.eye.height), "at rest")


def test_an_image_beside_its_file_and_against_it(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, _ = opened(shown_run(signal_runs["image"]))
    colors = {place: expected(*place) for place in PLACES}
    page.until(lambda p: close(p, colors), "opened")
    page.press("g")
    line = slice(WIDTH // 2 - 4, WIDTH // 2 + 4)  # between them, white
    page.until(lambda p: close(p, colors) and p[HEIGHT // 2, line].min(axis=1).max() > 150, "beside")
    page.press("g")
    page.press("2")
    page.until(lambda p: all(p[y, x].max() < 140 for x, y in PLACES), "error")


def test_a_video_plays_and_pauses(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, viewer = opened(shown_run(signal_runs["video"]))
    page.until(lambda p: np.ptp(p[HEIGHT // 2, 100:LEFT]) > 60, "opened")
    (served,) = viewer.pages.values()
    assert served.session is not None
    page.press("v")
    times = set[float]()
    assert page.soon(lambda: times.add(served.session.look.time) or len(times) > 4)
    page.keep("playing")
    page.button("Pause").click()
    page.page.wait_for_timeout(400)
    time = served.session.look.time
    page.page.wait_for_timeout(400)
    assert served.session.look.time == time
    page.button("Play").wait_for(timeout=WAIT * 1000)
    page.until(lambda p: np.ptp(p[HEIGHT // 2, 100:LEFT]) > 60, "paused")


def test_a_volume_is_cut_and_windowed(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, viewer = opened(shown_run(signal_runs["volume"]))

    def orange(p: np.ndarray) -> int:
        """Pixels of the sections' edges, of which coarser pictures have fewer; below viser's note, which is orange and
        there before the page is served."""
        return int(((p[200:, :LEFT, 0] - p[200:, :LEFT, 2]) > 60).sum())

    whole = page.until(lambda p: orange(p) > 300, "opened")
    (served,) = viewer.pages.values()
    assert served.session is not None
    page.page.get_by_label("Section across x").click()
    page.page.wait_for_timeout(500)
    assert served.session.look.sections[0] is None and served.session.look.sections[1] is not None
    page.until(lambda p: orange(p) > 300 and (abs(p - whole)[:, :LEFT].max(axis=2) > 25).sum() > 2500, "without x")
    slider = page.page.get_by_role("slider").nth(0)
    assert slider.count() == 1


def test_a_shape_is_turned_cut_and_exported(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, viewer = opened(shown_run(signal_runs["sdf"]))

    def grey(p: np.ndarray) -> int:
        part = p[:, :LEFT]
        return int(((np.ptp(part, axis=2) < 12) & (part.max(axis=2) < 235)).sum())

    page.until(lambda p: grey(p) > 15000, "opened")
    assert viewer.shown.stage is not None
    modes = list(viewer.shown.stage.modes)
    for mode in (*modes[1:], modes[0]):
        before = page.picture()
        page.press(str(modes.index(mode) + 1))
        page.until_changed(before, mode)
    page.press("3")
    page.until(lambda p: np.ptp(p[HEIGHT // 2, WIDTH // 2 - 60]) > 20, "normals again")
    before = page.picture()[HEIGHT // 2, WIDTH // 2 - 60]
    page.drag(150, 0)
    page.until(lambda p: abs(p[HEIGHT // 2, WIDTH // 2 - 60] - before).max() > 25, "turned")
    page.press("1")
    (served,) = viewer.pages.values()
    session = served.session
    assert session is not None

    def shaded(p: np.ndarray) -> bool:  # and smooth: a coarse picture differs from the one that is there in the end
        return bool(np.ptp(p[HEIGHT // 2, WIDTH // 2 - 60]) < 20) and session.statistics().n_passes == len(OFFSETS)

    before = page.until(shaded, "shaded again")
    page.press("m")
    page.until_changed(before, "the mesh it is made from, beside it")
    page.press("m")
    page.until(lambda p: not differ(p, before), "alone again")
    page.press("c")
    page.until_changed(before, "cropped")
    page.press("c")
    page.tab("Export")
    for old, value in ((256, 80), (200_000, 20_000), (1280, 320), (720, 200)):  # small files, for speed
        page.number(served.client.gui, old, value)
    mesh = trimesh.load(io.BytesIO(page.download("Save mesh")), file_type="glb", force="mesh")
    assert abs(np.ptp(mesh.vertices, axis=0) - 2).max() < 0.1
    points = trimesh.load(io.BytesIO(page.download("Save point cloud (.ply)")), file_type="ply")
    assert len(points.vertices) == 20_000 and abs(np.linalg.norm(points.vertices, axis=1) - 1).max() < 0.1
    shot = Image.open(io.BytesIO(page.download("Save PNG")))
    assert shot.size == (320, 200) and np.asarray(shot.convert("L"))[100, 160] < 235
    page.button("Show it in the scene").click()
    page.page.get_by_text("Mesh is shown").wait_for(timeout=WAIT * 1000)
    page.page.wait_for_timeout(500)
    page.keep("its own mesh")
    assert not page.errors


def test_levels_of_detail(opened: Open, signal_runs: dict[str, SignalRun]) -> None:
    page, viewer = opened(shown_run(signal_runs["image"]))
    colors = {place: expected(*place) for place in PLACES}
    page.until(lambda p: close(p, colors), "all")
    (served,) = viewer.pages.values()
    assert served.session is not None
    for _ in range(7):
        page.press("j")
        page.page.wait_for_timeout(150)
    page.until(lambda p: not close(p, colors), "coarse")
    assert served.session.look.level == 1
    page.press("l")
    page.page.wait_for_timeout(300)
    assert served.session.look.level == 2


@pytest.mark.parametrize("kind", ["image", "video", "volume", "sdf"])
def test_a_file_before_there_is_a_field(opened: Open, signal_files: dict[str, Path], kind: str) -> None:
    page, _ = opened(shown_data(signal_files[kind]))
    # a mesh is drawn by the browser
    page.until(lambda p: np.ptp(p[200:400, 200:LEFT].reshape(-1, 3), axis=0).max() > 50, "opened")
    assert not page.errors


def test_a_training_is_watched(opened: Open, signal_files: dict[str, Path]) -> None:
    signal = signals.read(signal_files["image"])
    method = load_signal_method("image", "image", SIGNAL_SETS)
    config = SignalRunConfig(
        data=str(signal_files["image"]), kind="image", method=method, max_num_iterations=10**6, device="cpu"
    )
    trainer = Trainer(KINDS["image"].task(signal, config, lambda fraction: None), config)
    live = Live(trainer)
    run = neurfield.SignalRun(config, signal.info, trainer.task.field, 0)
    page, _ = opened(shown_run(run, signal, lambda: trainer.step), live)

    def train() -> None:
        with live:
            trainer.train(live.on_step)

    thread = threading.Thread(target=train)
    thread.start()
    try:
        colors = {place: expected(*place) for place in PLACES}
        page.until(lambda p: close(p, colors, 50), "learned")
        page.button("Pause").click()
        page.page.get_by_text("paused").wait_for(timeout=WAIT * 1000)
        step = trainer.step
        page.page.mouse.move(*MIDDLE)
        page.page.wait_for_timeout(500)
        assert trainer.step <= step + 1
        page.keep("paused")
        page.button("Stop").click()
        thread.join(WAIT)
        assert not thread.is_alive()
        page.page.get_by_text("done").wait_for(timeout=WAIT * 1000)
    finally:
        live.stop()
        thread.join(WAIT)
