# SPDX-License-Identifier: Apache-2.0
"""Moving scenes and photos of different light through the commands: defaults, times, looks, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from neurfield.cli.main import main
from tests.scenes import MOVING_RADIUS, ball_scene, moving_middle, moving_scene, write_synthetic, write_transforms
from tests.training.test_dynamic import SMALL_DYNAMIC
from tests.training.test_trainer import SMALL

LOOKS = ("field.appearance_channels=4",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_synthetic(moving_scene(), tmp_path_factory.mktemp("data") / "moving")


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained as a user would who names no method."""
    output = tmp_path_factory.mktemp("outputs")
    words = ["train", data, "--output-dir", output, "--max-num-iterations", 400, "--timestamp", "a"]
    assert main([*map(str, words), "--set", *SMALL_DYNAMIC]) == 0
    return output / "moving" / "ngp-dynamic" / "a"


def fails(capsys: pytest.CaptureFixture, *words: object) -> str:
    assert main([*map(str, words)]) == 2
    err = capsys.readouterr().err
    assert err.startswith("neurfield: ") and err.count("\n") == 1, err
    return err


def frames(folder: Path) -> list[dict]:
    return json.loads((folder / "frames.json").read_text())["frames"]


def render(run: Path, output: Path, *words: object) -> list[float]:
    """Times of the pictures."""
    assert main(["render", str(run), "--output", str(output), *map(str, words)]) == 0
    return [frame["time"] for frame in frames(output)]


def test_a_split_is_measured_and_rendered_at_its_times(run: Path, tmp_path: Path, capsys) -> None:
    capsys.readouterr()
    assert main(["eval", str(run)]) == 0
    assert json.loads(capsys.readouterr().out)["psnr"] > 20
    own = moving_scene().cameras.times[24:].tolist()
    assert render(run, tmp_path / "own") == pytest.approx(own)
    assert render(run, tmp_path / "one", "--time", 0.25) == [0.25, 0.25]
    assert (tmp_path / "own/rgb/r_0.png").read_bytes() != (tmp_path / "one/rgb/r_0.png").read_bytes()


def test_time_runs_along_paths_that_say_none(run: Path, tmp_path: Path) -> None:
    assert render(run, tmp_path / "orbit", "--orbit", 5) == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert render(run, tmp_path / "between", "--interpolate", 3) == pytest.approx([0, 0.5, 1])
    assert render(run, tmp_path / "still", "--orbit", 3, "--time", 1) == [1, 1, 1]
    pose = [*moving_scene().cameras.c2w[0].flatten().tolist(), 0, 0, 0, 1]
    path, entries = tmp_path / "path.json", [{"camera_to_world": pose, "fov": 40} for _ in range(3)]
    content = {"render_width": 32, "render_height": 32, "fps": 24, "camera_path": entries}
    path.write_text(json.dumps(content))
    assert render(run, tmp_path / "silent", "--camera-path", path) == pytest.approx([0, 0.5, 1])
    for entry, time in zip(entries, (0.75, 0.5, 0.0), strict=True):
        entry["render_time"] = time
    path.write_text(json.dumps(content))
    assert render(run, tmp_path / "told", "--camera-path", path) == pytest.approx([0.75, 0.5, 0])
    first, last = (np.asarray(Image.open(tmp_path / "told" / "rgb" / f"0000{i}.png")).astype(int) for i in (0, 2))
    assert np.abs(first - last).max() > 60


def test_render_time_out_of_range(run: Path, tmp_path: Path, capsys) -> None:
    pose = [*moving_scene().cameras.c2w[0].flatten().tolist(), 0, 0, 0, 1]
    path = tmp_path / "path.json"
    frame = {"camera_to_world": pose, "fov": 40, "render_time": 7.0}
    path.write_text(json.dumps({"render_width": 8, "render_height": 8, "camera_path": [frame]}))
    err = fails(capsys, "render", run, "--output", tmp_path / "x", "--camera-path", path)
    assert "'render_time' must be 0 ... 1, found 7 ... 7" in err


def test_a_mesh_of_one_moment(run: Path, tmp_path: Path) -> None:
    for time in (0.0, 1.0):
        file = tmp_path / f"{time}.ply"
        words = ["export", "mesh", run, "--output", file, "--resolution", 48, "--time", time, "--min-component", 0.5]
        assert main([*map(str, words)]) == 0
        middle = trimesh.load(file).bounds.mean(axis=0)
        assert np.abs(middle - moving_middle(time)).max() < 0.3 * MOVING_RADIUS


def test_a_small_file_moves_too(run: Path, tmp_path: Path, capsys) -> None:
    for form in ("half", "int8"):
        small = tmp_path / f"{form}.safetensors"
        assert main(["convert", str(run), "--to", form, "--output", str(small)]) == 0
        capsys.readouterr()
        assert main(["eval", str(small)]) == 0
        assert json.loads(capsys.readouterr().out)["psnr"] > 20


def test_refusals(run: Path, data: Path, tmp_path: Path, capsys) -> None:
    output = ("--output", tmp_path / "x")
    assert "time 2: expected 0 ... 1" in fails(capsys, "render", run, *output, "--time", 2)
    assert "has one look for all photos" in fails(capsys, "render", run, *output, "--appearance", 0)
    web = ("export", "web", run, "--output", tmp_path / "x.html", "--appearance", 0)
    assert "has one look for all photos" in fails(capsys, *web)
    err = fails(capsys, "convert", run, "--to", "kilonerf", *output)
    assert "the teacher's field (ngp-dynamic) moves, and a kilonerf field cannot" in err
    words = ("train", data, "--output-dir", tmp_path, "--max-num-iterations", 1)
    assert "cannot choose for a dynamic field" in fails(capsys, *words, "--auto-frequency")
    still = write_transforms(ball_scene(4), tmp_path / "still")
    words = ("train", still, "--output-dir", tmp_path, "--max-num-iterations", 1)
    assert "needs views of different times, and these have none" in fails(capsys, *words, "--method", "ngp-dynamic")


def test_a_still_method_says_that_it_sees_no_motion(data: Path, tmp_path: Path, capsys) -> None:
    words = ["train", data, "--method", "ngp-fast", "--output-dir", tmp_path, "--max-num-iterations", 2]
    assert main([*map(str, words), "--timestamp", "a", "--set", *SMALL]) == 0
    assert (
        "note: the views are of 24 times, which method ngp-fast learns as if nothing moved" in capsys.readouterr().out
    )
    run = tmp_path / "moving/ngp-fast/a"
    assert "is the same at all times; leave it out" in fails(
        capsys, "render", run, "--output", tmp_path / "x", "--time", 0.5
    )
    assert "is the same at all times" in fails(
        capsys, "export", "mesh", run, "--output", tmp_path / "x.ply", "--time", 0.5
    )


def test_an_interrupted_run_goes_on(data: Path, tmp_path: Path) -> None:
    words = ["train", data, "--output-dir", tmp_path, "--timestamp", "a", "--eval-split", "none"]
    assert main([*map(str, words), "--max-num-iterations", "3", "--set", *SMALL_DYNAMIC]) == 0
    assert main([*map(str, words), "--max-num-iterations", "5", "--resume"]) == 0
    assert (tmp_path / "moving/ngp-dynamic/a/checkpoints/step-000000005.safetensors").exists()


def test_looks_of_photos(tmp_path: Path, capsys) -> None:
    data = write_transforms(ball_scene(6, 2), tmp_path / "ball")
    words = ["train", data, "--output-dir", tmp_path / "out", "--timestamp", "a", "--max-num-iterations", 30]
    assert main([*map(str, words), "--set", *SMALL, *LOOKS]) == 0
    run = tmp_path / "out/ball/ngp-fast/a"
    assert render(run, tmp_path / "mean") and render(run, tmp_path / "one", "--appearance", 5)
    assert (tmp_path / "mean/rgb/006.png").read_bytes() != (tmp_path / "one/rgb/006.png").read_bytes()
    for page, look in (("mean.html", ()), ("one.html", ("--appearance", "5"))):
        assert main(["export", "web", str(run), "--output", str(tmp_path / page), *look]) == 0
    assert (tmp_path / "mean.html").read_bytes() != (tmp_path / "one.html").read_bytes()
    err = fails(capsys, "render", run, "--output", tmp_path / "x", "--appearance", 6)
    assert "appearance 6: expected the number of a training view, 0 ... 5" in err
    small = tmp_path / "small.safetensors"
    assert main(["convert", str(run), "--to", "int8", "--output", str(small)]) == 0
    assert render(small, tmp_path / "small", "--appearance", 5)


def test_frames_have_a_time_all_or_none(tmp_path: Path, capsys) -> None:
    data = write_transforms(moving_scene(4, 1), tmp_path / "moving")
    content = json.loads((data / "transforms.json").read_text())
    assert main(["data", "info", str(data), "--output", str(tmp_path / "c.png")]) == 0
    assert "5 different, 0 ... 0.5 ... 1" in capsys.readouterr().out
    del content["frames"][2]["time"]
    (data / "transforms.json").write_text(json.dumps(content))
    err = fails(capsys, "data", "info", data, "--output", tmp_path / "c.png")
    assert "frame 2" in err and "no time, which 4 of the 5 frames have; give all frames one, or none" in err
    content["frames"][2]["time"] = math.nan
    (data / "transforms.json").write_text(json.dumps(content))
    assert "time must be a number from 0 to 1" in fails(capsys, "data", "info", data, "--output", tmp_path / "c.png")


def test_shapes_know_neither(tmp_path: Path, capsys) -> None:
    torch.manual_seed(0)
    Image.fromarray((torch.rand(16, 16, 3) * 255).byte().numpy()).save(tmp_path / "p.png")
    words = ["train", tmp_path / "p.png", "--output-dir", tmp_path, "--timestamp", "a", "--max-num-iterations", 1]
    assert main([*map(str, words)]) == 0
    (run,) = tmp_path.glob("p/*/a")
    err = fails(capsys, "render", run, "--output", tmp_path / "x.png", "--time", 0.5)
    assert "--time is for scenes" in err
