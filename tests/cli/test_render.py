# SPDX-License-Identifier: Apache-2.0
"""`neurfield render` on a run that is known exactly: a ball of radius 1 around the origin."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.cli import render
from neurfield.cli.main import main
from neurfield.data.options import LoadOptions
from neurfield.data.scene import Normalization
from neurfield.rendering.renderer import OUTPUTS, image_rays
from neurfield.run import Run
from neurfield.training.method import RunConfig
from neurfield.training.view_set import ViewSet


class Ball:
    """The part of a trained run that rendering uses."""

    def __init__(self, n: int = 4, width: int = 24, height: int = 20) -> None:
        angle = torch.arange(n) * 0.7
        positions = torch.stack([4 * angle.cos(), 4 * angle.sin(), torch.full((n,), 1.0)], dim=1)
        self.cameras = Cameras.pinhole(paths.look_at(positions, torch.zeros(3)), 30.0, width, height)
        splits = {"train": list(range(n)), "val": [], "test": [1, 2]}
        names = [f"/data/test/r_{i}.png" for i in range(n)]
        self.views = ViewSet("ball", self.cameras, splits, Normalization(0.25, (0.5, 0.5, 0.5)), names)
        self.config = RunConfig()
        self.is_dynamic, self.n_appearances = False, 0
        self.asked: list[Sequence[str]] = []
        self.times: list[float] = []

    def to(self, device: str) -> None:
        assert device == "auto"

    def check_conditions(self, time: float | None, appearance: int | None) -> None:
        Run.check_conditions(self, time, appearance)  # type: ignore[arg-type]

    def render(self, camera: Cameras, outputs: Sequence[str], appearance: int | None = None) -> dict[str, Tensor]:
        self.asked.append(outputs)
        self.times.append(float(camera.times[0]))
        width, height = camera.sizes[0].tolist()
        origins, directions = image_rays(camera, 0, height)
        along = -(origins * directions).sum(1)
        gap = 1 - ((origins + along[:, None] * directions) ** 2).sum(1)
        hit = gap > 0
        depth = torch.where(hit, along - gap.clamp_min(0).sqrt(), 0.0)
        normal = torch.where(hit[:, None], origins + depth[:, None] * directions, 0.0)
        rgb = torch.where(hit[:, None], torch.tensor([0.8, 0.3, 0.1]), 1.0)
        flat = {"rgb": rgb, "depth": depth, "accumulation": hit.float(), "normal": normal}
        flat |= {"occupancy": rgb, "samples": 9 * hit.float()}
        return {name: flat[name].view(height, width, *flat[name].shape[1:]) for name in outputs}


@pytest.fixture
def ball(monkeypatch: pytest.MonkeyPatch) -> Ball:
    run = Ball()
    monkeypatch.setattr(render, "load_scene_run", lambda path, what: run)
    return run


def fails(capsys: pytest.CaptureFixture, *words: object) -> str:
    assert main(["render", "RUN", *map(str, words)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    return err


def test_split_to_a_folder_with_all_outputs(ball: Ball, tmp_path: Path) -> None:
    output = tmp_path / "deep" / "out"
    assert main(["render", "RUN", "--output", str(output), "--outputs", *OUTPUTS]) == 0
    content = json.loads((output / "frames.json").read_text())
    assert [frame["files"]["rgb"] for frame in content["frames"]] == ["rgb/r_1.png", "rgb/r_2.png"]
    depth = np.load(output / "depth/r_1.npy")
    axis = torch.linalg.vector_norm(ball.cameras.c2w[1, :, 3])
    assert depth.max() < axis and depth[depth > 0].min() == pytest.approx(float(axis) - 1, abs=0.02)
    assert (depth > 0).sum() == (np.asarray(Image.open(output / "accumulation/r_1.png")) == 255).sum()
    assert [p.name for p in output.parent.iterdir()] == ["out"]


def test_orbit_to_a_video(ball: Ball, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    output = tmp_path / "orbit.mp4"
    words = ["--orbit", "5", "--output", str(output), "--outputs", "rgb", "depth", "--fps", "10"]
    assert main(["render", "RUN", *words]) == 0
    with av.open(str(output)) as container:
        stream = container.streams.video[0]
        assert (stream.frames, stream.width, stream.height, stream.average_rate) == (5, 48, 20, 10)
    assert [p.name for p in tmp_path.iterdir()] == ["orbit.mp4"]


def test_an_orbit_says_what_no_photo_has_seen(ball: Ball, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """The photos stand at 0, 40, 80 and 120 degrees; of twelve views those at 180 to 300 are far from them."""
    assert main(["render", "RUN", "--orbit", "12", "--output", str(tmp_path / "far")]) == 0
    assert "note: 5 of 12 views more than 45 degrees around" in capsys.readouterr().out
    assert main(["render", "RUN", "--orbit", "1", "--output", str(tmp_path / "near")]) == 0
    assert "note" not in capsys.readouterr().out


def test_the_turn_to_the_nearest_camera_is_around_what_is_up() -> None:
    """Also across the seam at 180 degrees, and in a world whose +y is up."""
    angle = torch.deg2rad(torch.tensor([170.0, 150.0, 100.0, -100.0]))
    positions = torch.stack([4 * angle.cos(), 4 * angle.sin(), torch.tensor([1.0, 2, 1, 2])], dim=1)
    around = Cameras.pinhole(paths.look_at(positions, torch.zeros(3)), 30.0, 8, 8)
    views = paths.orbit(around, 18)  # at 170, 190, 210 ...
    expected = torch.tensor([0.0, 20, 40, 30, 10, 10, 30, 50, 70, 90, 90, 70, 50, 30, 10, 10, 20, 0])
    assert torch.allclose(paths.turn_to_nearest(around, views), expected, atol=1e-3)
    y_up = torch.tensor([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])
    turned = [replace(cameras, c2w=y_up @ cameras.c2w) for cameras in (around, views)]
    assert torch.allclose(paths.turn_to_nearest(*turned), expected, atol=1e-3)


def test_one_view_to_a_picture(ball: Ball, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    output = tmp_path / "still.png"
    words = ["--orbit", "1", "--output", str(output), "--outputs", "rgb", "depth"]
    assert main(["render", "RUN", *words]) == 0
    assert "a picture of 1 view (rgb, depth) written to" in capsys.readouterr().out
    with Image.open(output) as image:
        assert image.size == (48, 20) and image.mode == "RGB"
    assert [p.name for p in tmp_path.iterdir()] == ["still.png"]
    assert "still.png exists" in fails(capsys, *words)
    assert main(["render", "RUN", *words, "--overwrite"]) == 0


def test_interpolation_and_downscale(ball: Ball, tmp_path: Path) -> None:
    output = tmp_path / "out"
    words = ["--interpolate", "7", "--downscale-factor", "2", "--output", str(output)]
    assert main(["render", "RUN", *words]) == 0
    names = sorted(p.name for p in (output / "rgb").iterdir())
    assert names == [f"{i:05d}.png" for i in range(7)]
    assert Image.open(output / "rgb" / names[0]).size == (12, 10)
    assert ball.asked[0] == ["rgb"]


def test_panoramas(ball: Ball, tmp_path: Path) -> None:
    """Level, twice as wide as high, with depths along rays although those along the axis are the default."""
    output = tmp_path / "out"
    words = ["--orbit", "2", "--panorama", "--outputs", "rgb", "depth", "--output", str(output)]
    assert main(["render", "RUN", *words]) == 0
    content = json.loads((output / "frames.json").read_text())
    assert content["depth"]["kind"] == "distance from the camera, along the ray"
    pose = torch.tensor(content["frames"][0]["transform_matrix"])[:3]
    torch.testing.assert_close(pose[:, 1], torch.tensor([0.0, 0, 1]), atol=1e-5, rtol=0)
    camera = Cameras.panorama(pose[None], 40, 20)
    torch.testing.assert_close(
        torch.from_numpy(np.load(output / "depth/00000.npy")), ball.render(camera, ("depth",))["depth"]
    )
    assert Image.open(output / "rgb/00000.png").size == (40, 20)
    assert main(["render", "RUN", "--panorama", "--output", str(tmp_path / "split"), "--downscale-factor", "2"]) == 0
    assert Image.open(tmp_path / "split/rgb/r_1.png").size == (20, 10)


def test_camera_path(ball: Ball, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pose = [*ball.cameras.c2w[0].flatten().tolist(), 0, 0, 0, 1]
    frames = [{"camera_to_world": pose, "fov": 45, "aspect": 1}] * 3
    path = tmp_path / "path.json"
    path.write_text(json.dumps({"render_width": 16, "render_height": 16, "fps": 24, "camera_path": frames}))
    assert main(["render", "RUN", "--camera-path", str(path), "--output", str(tmp_path / "out")]) == 0
    assert len(list((tmp_path / "out/rgb").iterdir())) == 3
    assert "note" not in capsys.readouterr().out
    assert main(["render", "RUN", "--camera-path", str(path), "--output", str(tmp_path / "s"), "--seconds", "9"]) == 0
    assert "path.json: it says its frames itself; --seconds is ignored" in capsys.readouterr().out
    frames[1] = {**frames[1], "camera_to_world": [*pose[:3], 4e5, *pose[4:]]}  # of a survey, as the photos were not
    path.write_text(json.dumps({"render_width": 16, "render_height": 16, "fps": 24, "camera_path": frames}))
    assert main(["render", "RUN", "--camera-path", str(path), "--output", str(tmp_path / "far")]) == 0
    told = capsys.readouterr().out
    assert "note: 1 of 3 views are more than 100 sides of the field's box away" in told and "in the world frame" in told


def test_instant_ngp_has_the_frame_of_the_data_file() -> None:
    shift = (0.1, 0.2, 0.3)
    usual = (0.33, (0.5, 0.5, 0.5))
    assert render.ngp_frame(Normalization(2.0, shift, 1, "given"), LoadOptions()) == (2.0, shift)
    assert render.ngp_frame(Normalization(2.0, shift, 1, "poses"), LoadOptions()) == usual
    assert render.ngp_frame(Normalization(2.0, shift, 1, "given"), LoadOptions(scale=2.0)) == usual


def test_wrong_use_is_one_line(ball: Ball, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "out"
    assert "give one of --split, --orbit" in fails(capsys, "--output", out, "--split", "test", "--orbit", 3)
    assert "no views in split 'tset' (there are" in fails(capsys, "--output", out, "--split", "tset")
    assert "--downscale-factor must be 1 ... 1024, got 0" in fails(capsys, "--output", out, "--downscale-factor", 0)
    assert "--outputs needs different names" in fails(capsys, "--output", out, "--outputs", "rgb", "rgb")
    assert "unknown output 'normals', did you mean 'normal'?" in fails(capsys, "--output", out, "--outputs", "normals")
    assert "unknown depth format 'tif'" in fails(capsys, "--output", out, "--depth-format", "tif")
    assert "unknown kind of depth 'zz'" in fails(capsys, "--output", out, "--depth-kind", "zz")
    for words in (["--elevation", "9"], ["--seconds", "2"], ["--depth-format", "exr"], ["--depth-kind", "ray"]):
        assert f"{words[0]} says something only with" in fails(capsys, "--output", out, *words)
    assert "--fps must be above 0" in fails(capsys, "--output", out, "--fps", -1)
    assert "RUN: no such run" in fails(capsys, "--output", out, "--resolution", 8, 8)
    assert "--orbit: expected at least 1 view" in fails(capsys, "--output", out, "--orbit", 0)
    assert "x.jpg: views of a scene go into a folder" in fails(capsys, "--output", tmp_path / "x.jpg")
    assert "x.png: a picture is of one view, and there are 2" in fails(capsys, "--output", tmp_path / "x.png")
    assert "no camera path" in fails(capsys, "--output", out, "--camera-path", tmp_path / "none.json")
    out.mkdir()
    (out / "frames.json").write_text("{}")
    assert "exists; choose another --output" in fails(capsys, "--output", out)
    assert not ball.asked


def test_overwrite_replaces_what_render_has_made(ball: Ball, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["render", "RUN", "--output", str(out)]) == 0
    (out / "old").mkdir()
    assert main(["render", "RUN", "--output", str(out), "--overwrite"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["frames.json", "rgb"]


@pytest.mark.parametrize("name", ["photos", "photos.mp4"])
def test_overwrite_replaces_no_other_folder(
    ball: Ball, name: str, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photos = tmp_path / name
    photos.mkdir()
    (photos / "a.jpg").write_text("dear")
    message = "is a folder" if photos.suffix else "exists and holds no frames.json, so it is not replaced"
    assert message in fails(capsys, "--output", photos, "--overwrite")
    assert [p.name for p in photos.iterdir()] == ["a.jpg"] and not ball.asked


@pytest.mark.parametrize("name", ["out", "out.mp4"])
def test_a_failure_half_way_leaves_nothing(
    ball: Ball, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    whole = ball.render

    def broken(camera: Cameras, outputs: Sequence[str], appearance: int | None = None) -> dict[str, Tensor]:
        if len(ball.asked) == 1:
            raise MemoryError
        return whole(camera, outputs)

    monkeypatch.setattr(ball, "render", broken)
    assert main(["render", "RUN", "--output", str(tmp_path / name)]) == 1
    assert "out of memory" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_views_of_different_sizes_cannot_be_a_video(ball: Ball, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    ball.cameras.sizes[2] += 2
    assert "the views have different sizes" in fails(capsys, "--output", tmp_path / "a.mp4")
    assert not list(tmp_path.iterdir())
