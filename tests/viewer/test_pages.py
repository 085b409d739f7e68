# SPDX-License-Identifier: Apache-2.0
"""Pages over the wire: pictures, several at once, those that vanish; and the commands and functions that open them."""

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from websockets.exceptions import WebSocketException

import neurfield.viewer
from neurfield import ops
from neurfield.cameras.paths import look_at
from neurfield.cli.main import main
from neurfield.errors import UserError
from neurfield.viewer import ServeOptions, Viewer, open_viewer, shown_data, shown_run
from neurfield.viewer.radiance import RadianceStage
from tests.data import small
from tests.viewer.conftest import METHOD, SIGNAL_SETS
from tests.viewer.wire import WirePage

# before a picture or a ball at the origin
BEFORE = look_at(torch.tensor([[0.3, 0.2, 2.5]]), torch.zeros(3), (0.0, 1.0, 0.0))[0]


def test_a_picture_is_what_the_renderer_gives(viewer, run):
    with WirePage(viewer.base_url, size=(64, 64)) as page:
        fov = 2 * np.arctan(0.5 / 1.4)
        page.look_from(run.cameras.c2w[0], fov)
        page.frame()
        frame = page.frame_of((64, 64))
    expected = (run.render(run.cameras[0])["rgb"] * 255).numpy()
    # JPEG at quality 95, its colours at half resolution
    assert np.abs(frame.image - expected).mean() < 4


def test_pages_have_their_own_pictures(viewer, run):
    with WirePage(viewer.base_url) as one, WirePage(viewer.base_url) as other:
        one.look_from(run.cameras.c2w[0])
        other.look_from(run.cameras.c2w[6])
        a, b = one.frame_of((320, 240)), other.frame_of((320, 240))
        assert np.abs(a.image.astype(int) - b.image).mean() > 3
        assert len(viewer.pages) == 2


def test_a_page_that_vanishes_frees_its_work(viewer, run):
    with WirePage(viewer.base_url, size=(2000, 2000)) as page:
        page.look_from(run.cameras.c2w[0])
        page.frame()
        (served,) = viewer.pages.values()
        page.socket.socket.close()  # no goodbye
    end = time.monotonic() + 15
    assert served.session is not None
    while viewer.pages and time.monotonic() < end:
        time.sleep(0.02)
    assert not viewer.pages and not served.session._thread.is_alive()


def test_pictures_are_no_larger_than_the_page_allows(viewer, run):
    with WirePage(viewer.base_url, size=(3000, 1500)) as page:
        page.look_from(run.cameras.c2w[0])
        assert max(page.frame().image.shape) <= 1280
        frame = page.frame_of((1280, 640))
        assert frame.image.shape == (640, 1280, 3)


def test_the_link_has_the_camera(viewer, run):
    link = viewer.link(initialCameraPosition="1,2,3")
    assert link == viewer.base_url + "?initialCameraPosition=1,2,3"


@pytest.mark.parametrize("fault", [None, IndexError("7 of 3")])
def test_a_small_picture_is_painted_before_there_is_a_page(run, monkeypatch, fault):
    """What a device loads for its first picture is there then; its faults are those of the page that comes."""
    paint, sizes, done = RadianceStage.paint, [], threading.Event()

    def first(stage, camera, *rest):
        sizes.append(camera.sizes[0].tolist())
        done.set()
        if fault is not None and len(sizes) == 1:
            raise fault
        return paint(stage, camera, *rest)

    monkeypatch.setattr(RadianceStage, "paint", first)
    with Viewer(shown_run(run), ServeOptions(port=0)) as viewer:
        assert done.wait(10) and max(sizes[0]) < 100
        with WirePage(viewer.base_url, size=(64, 64)) as page:
            page.look_from(run.cameras.c2w[0])
            assert page.frame().image.size


def test_home_is_seen_by_a_camera(run):
    home = shown_run(run).home
    camera = home.camera(40, 30)
    ahead = torch.tensor(home.target) - torch.tensor(home.position)
    assert torch.allclose(-camera.c2w[0, :, 2], ahead / ahead.norm(), atol=1e-5)
    assert camera.c2w[0, :, 3].tolist() == list(home.position) and camera.sizes.tolist() == [[40, 30]]
    assert 15 / float(camera.intrinsics[0, 1]) == pytest.approx(np.tan(home.fov / 2), rel=1e-5)


def test_open_viewer_takes_runs_and_their_folders(run):
    folder = run.path.parents[1]
    with open_viewer(folder, port=0) as viewer:
        assert viewer.shown.name == "ball" and len(viewer.shown.curve.points) > 1
    with pytest.raises(UserError, match="no such run or data"):
        open_viewer("nowhere.png")
    with pytest.raises(UserError, match="expected a run, a field, or a path of a run or data, got int"):
        open_viewer(3)  # type: ignore[arg-type]
    assert set(neurfield.viewer.__all__) >= {"show", "Viewer"}


def test_open_viewer_takes_data_as_the_command_does(data, signal_files):
    for path, name in ((data, "ball"), (signal_files["image"], "picture")):
        with open_viewer(path, port=0) as viewer:
            assert viewer.shown.name == name


def test_data_have_views_and_no_field(data):
    shown = shown_data(data)
    assert shown.stage is None and len(shown.views.cameras) == 18
    with Viewer(shown, ServeOptions(port=0)) as viewer:
        assert viewer.url


def marks(folder, n, n_images):
    """The messages that add the marks of `n` views to a page, by name, and the marks with an image."""
    found, images = {}, set()
    with Viewer(shown_data(folder), ServeOptions(port=0)) as viewer, WirePage(viewer.base_url) as page:
        page.look_from(BEFORE)
        while len(found) < n or len(images) < n_images:
            for message in page.messages(20):
                if "_image_data" in message.get("updates", {}):
                    images.add(message["name"])
                elif str(message.get("name", "")).startswith("/views/") and "props" in message:
                    found[message["name"]] = message
    return found, images


def test_panoramas_are_balls_among_frusta(tmp_path):
    small.with_panoramas(tmp_path, small.transforms(tmp_path, 5), [1])
    found, images = marks(tmp_path, 5, 4)
    kinds = {name: message["type"] for name, message in found.items()}
    expected = {f"/views/{i}": "IcosphereMessage" if i == 1 else "CameraFrustumMessage" for i in range(5)}
    assert kinds == expected and "/views/1" not in images
    assert len({message["props"]["scale"] for message in found.values()}) == 1  # a ball is as large as a frustum


def test_panoramas_at_one_place_can_be_seen(tmp_path):
    """They are at no distance from their middle, to which marks are proportional."""
    content = small.transforms(tmp_path, 4)
    for frame in content["frames"]:
        frame["transform_matrix"] = content["frames"][0]["transform_matrix"]
    small.with_panoramas(tmp_path, content, [0, 1, 2, 3])
    found, _ = marks(tmp_path, 4, 0)
    side = shown_data(tmp_path).home.scale
    for message in found.values():
        assert 1e-3 * side < message["props"]["scale"] < 0.1 * side


def test_panoramas_alone_are_all_in_the_first_picture(tmp_path):
    content = small.transforms(tmp_path, 9)
    small.with_panoramas(tmp_path, content, list(range(9)))
    shown = shown_data(tmp_path)
    camera, places = shown.home.camera(300, 200), shown.views.cameras.c2w[:, :, 3].contiguous()
    xy, depths = ops.project(camera, torch.zeros(9, dtype=torch.int64), places)
    assert (depths > 0).all() and ((xy > 0) & (xy < torch.tensor([300, 200]))).all()
    assert float(xy[:, 1].max() - xy[:, 1].min()) > 20 and shown.home.position[2] > 1  # from above, too


def test_the_command_says_what_is_wrong(tmp_path, capsys):
    assert main(["view", str(tmp_path / "nothing")]) == 2
    assert "no such run or data" in capsys.readouterr().err
    assert main(["view", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "not a data set of a known format" in error and "did you mean" not in error
    run = tmp_path / "photos" / "ngp" / "2026-01-01_000000"
    (run / "checkpoints").mkdir(parents=True)
    (run / "checkpoints" / "step-000000001.safetensors").touch()
    assert main(["view", str(tmp_path)]) == 2
    assert f"did you mean {run}?" in capsys.readouterr().err


@contextlib.contextmanager
def command(*words: object) -> Iterator[subprocess.Popen[str]]:
    """A neurfield command that prints where its viewer is."""
    line = [sys.executable, "-m", "neurfield.cli.main", *map(str, words), "--port", "0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def link_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("viewer: "):
            return line.split()[1]
    raise AssertionError(process.stderr and process.stderr.read())


def ended(process: subprocess.Popen[str]) -> str:
    """What it printed after Ctrl-C; it must end well."""
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None and process.stderr is not None
    code = process.wait(timeout=60)
    told = [line for line in process.stderr if not line.startswith(("train ", "measure "))]  # progress, if it took long
    assert (code, told) == (0, [])
    return process.stdout.read()


def test_view_prints_its_link_and_ends_with_ctrl_c(run):
    with command("view", run.path.parents[1]) as process:
        with WirePage(link_of(process)) as page:
            page.look_from(run.cameras.c2w[0])
            assert page.frame().image.size
        assert "ssh -L" in ended(process)


def lines_of_the_training(process):
    """What a watched training prints until it is over and only the viewer goes on."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "the viewer goes on" in line:
            break
    return lines


def test_a_training_is_shown_from_its_start_and_when_it_is_over(data, run, tmp_path):
    words = ("train", data, "--vis", "viewer", "--output-dir", tmp_path, "--max-num-iterations", 30, "--set", *METHOD)
    with command(*words) as process:
        with WirePage(link_of(process)) as page:
            page.look_from(run.cameras.c2w[0])
            assert page.frame().image.size
            lines = lines_of_the_training(process)
            assert any("test: PSNR" in line for line in lines)
            page.look_from(run.cameras.c2w[3])
            assert page.frame_of((320, 240)).image.size
        ended(process)
    assert list(tmp_path.glob("ball/ngp-fast/*/checkpoints/step-*.safetensors"))


@pytest.mark.parametrize("kind", ["image", "sdf"])
def test_a_training_of_a_file_is_shown_live(signal_files, tmp_path, kind):
    split = "test" if kind == "image" else "none"  # measuring a shape takes long
    words = ("--output-dir", tmp_path, "--max-num-iterations", 40, "--eval-split", split, "--set", *SIGNAL_SETS)
    with command("train", signal_files[kind], "--vis", "viewer", *words) as process:
        link = link_of(process)
        with WirePage(link) as page:
            page.look_from(BEFORE)
            assert page.frame().image.size
        lines = lines_of_the_training(process)
        assert any("40 steps in" in line for line in lines)
        assert any("PSNR" in line for line in lines) == (kind == "image")
        with WirePage(link) as page:
            page.look_from(BEFORE, 0.5)
            assert np.ptp(page.frame_of((320, 240)).image) > 50
        ended(process)
    assert list(tmp_path.glob("*/*/*/checkpoints/step-*.safetensors"))


@pytest.mark.parametrize("kind", ["image", "video", "volume"])
def test_view_shows_a_file_before_any_training(signal_files, kind):
    with command("view", signal_files[kind]) as process:
        with WirePage(link_of(process)) as page:
            page.look_from(BEFORE)
            assert np.ptp(page.frame_of((320, 240)).image) > 50
        ended(process)


def test_all_stages_of_a_distillation_are_shown_on_one_link(data, run, tmp_path):
    quick = ("field.longest=3", "field.width=16", "field.position_frequencies=4", "distill.n_samples=4096")
    steps = ("distill.iterations=20", "training.n_samples=4096", "distill.teacher=ngp-fast")
    words = ("--method", "kilonerf", "--max-num-iterations", 60, "--output-dir", tmp_path)
    seen = 0
    with command("train", data, "--vis", "viewer", *words, "--set", *quick, *steps) as process:
        link = link_of(process)
        lines: list[str] = []
        assert process.stdout is not None
        reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)  # type: ignore[arg-type]
        reader.start()
        end = time.monotonic() + 240
        while not any("the viewer goes on" in line for line in lines) and time.monotonic() < end:
            # as a page does: connect again when a stage has ended
            with contextlib.suppress(OSError, TimeoutError, WebSocketException), WirePage(link) as page:
                page.look_from(run.cameras.c2w[seen % 4])
                page.frame(timeout=10)
                seen += 1
        assert any("the viewer goes on" in line for line in lines), lines
        assert sum("viewer: " in line for line in lines) == 0  # the link is said once, and good for all stages
        with WirePage(link) as page:
            page.look_from(run.cameras.c2w[0])
            assert page.frame_of((320, 240)).image.size
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
        reader.join(10)
        assert process.stderr is not None
        stages = ("train ", "distill ", "fine-tune ", "measure ")  # progress, if it took long
        assert not [line for line in process.stderr if not line.startswith(stages)]
    assert seen >= 1 and any("fine-tune: " in line for line in lines) and any("test: PSNR" in line for line in lines)
