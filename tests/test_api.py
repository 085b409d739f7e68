# SPDX-License-Identifier: Apache-2.0
"""The public Python API: what the README shows runs, and it can do what the commands can."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import neurfield
from neurfield.errors import UserError
from neurfield.fields import FIELDS
from neurfield.rendering.renderer import Renderer
from neurfield.training import checkpoint
from neurfield.training.trainer import StepReport
from neurfield.viewer.bare import shown_field
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL

ROOT = Path(__file__).parents[1]
README, OWN_CODE = ROOT / "README.md", ROOT / "docs/own_code.md"
STEPS = 20


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_synthetic(ball_scene(12, 2, 32), tmp_path / "data/lighthouse")


def train(scene: neurfield.Scene, **options: object) -> neurfield.Run:
    return neurfield.train(scene, "ngp-fast", overrides=SMALL, max_num_iterations=STEPS, **options)


def shortened(page: Path, changes: dict[str, str]) -> str:
    """The Python of a page, with less to do."""
    code = "".join(re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL))
    for long, short in changes.items():
        assert code.count(long) == 1
        code = code.replace(long, short)
    return code


def test_the_example_of_the_readme(data, tmp_path, monkeypatch, capsys):
    code = shortened(
        README,
        {
            "max_seconds=60": "max_num_iterations=60",
            "scene.cameras, 90": "scene.cameras, 9",
            '"lighthouse.glb"': '"lighthouse.glb", resolution=64',
        },
    )
    assert len(code.splitlines()) <= 10
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(code, names)
    assert float(capsys.readouterr().out) > 15
    image = names["image"]
    assert isinstance(image, torch.Tensor) and image.shape == (32, 32, 3) and image.min() >= 0 and image.max() <= 1
    for made in ("lighthouse.mp4", "lighthouse.glb", "lighthouse.html", "lighthouse.safetensors"):
        assert (tmp_path / made).stat().st_size > 1000


def test_a_loop_and_a_field_of_ones_own(data, tmp_path, monkeypatch, capsys):
    code = shortened(
        OWN_CODE,
        {
            "range(1000)": "range(60)",
            "max_seconds=60": "max_num_iterations=8",
            '"mine.glb"': '"mine.glb", resolution=32',
        },
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(FIELDS, "mine", None)  # the page puts a field there
    names: dict[str, Any] = {"__name__": "page"}
    torch.manual_seed(0)
    exec(code, names)
    assert float(capsys.readouterr().out) > 12  # without a step 9, after 60 of them 15 to 16, by the seed
    run, scene, grid = names["run"], names["scene"], names["grid"]
    assert run.step == 8 and (tmp_path / "mine.glb").exists()
    neurfield.train(scene, resume=run.path.parent.parent, max_num_iterations=9)
    kept, camera = neurfield.load(tmp_path / "mine.safetensors"), scene.cameras[0]
    drawn = Renderer(names["field"], grid, scene.normalization).render(camera)["rgb"]
    assert torch.allclose(kept.render(camera)["rgb"], drawn, atol=0.02)  # by other steps
    assert shown_field(run.field).stage

    monkeypatch.delitem(FIELDS, "mine")  # files would name what nobody can build
    files = set(tmp_path.rglob("*"))
    for write in (
        lambda: neurfield.train(scene, names["method"], max_num_iterations=1, output_dir=tmp_path / "none"),
        lambda: kept.save(tmp_path / "none.safetensors"),
    ):
        with pytest.raises(UserError, match=r"otype: expected one of grid, .*, got 'mine'"):
            write()
    with pytest.raises(UserError, match=r"none of its checkpoints can be continued \(.*, got 'mine'\)"):
        neurfield.train(scene, resume=run.path.parent.parent)
    assert set(tmp_path.rglob("*")) == files


def test_a_budget_that_no_file_could_hold_is_refused(data):
    scene = neurfield.load_scene(data)
    with pytest.raises(UserError, match=r"^max_num_iterations: expected an integer, got 10.0$"):
        neurfield.train(scene, max_num_iterations=1e1)
    with pytest.raises(UserError, match=r"^max_seconds: expected a number, got '10'$"):
        neurfield.train_signal(next((data / "train").iterdir()), max_seconds="10")


def test_an_array_is_no_path():
    with pytest.raises(UserError, match=r"train_signal: expected the path of a file, got ndarray; .*numpy.save"):
        neurfield.train_signal(np.zeros((4, 4)))


def test_every_public_name_is_there():
    for name in neurfield.__all__:
        assert getattr(neurfield, name) is not None


def test_packages_need_no_import_of_their_own():
    code = "import neurfield as n; n.nerfacc, n.metrics.METRICS, n.losses.LOSSES, n.networks.create, n.ops.hash_grid"
    code += ", n.tcnn.Encoding, n.fresh.choose, n.viewer.show"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_run_that_is_loaded_reads_its_images_as_it_was_trained(data, tmp_path):
    """At half resolution, as the configuration in its files says."""
    scene = neurfield.load_scene(data, downscale_factor=2)
    run = train(scene, output_dir=tmp_path / "out")
    loaded = neurfield.load(run.path)
    assert Path(loaded.config.data) == data and loaded.config.load.downscale_factor == 2
    measured = loaded.evaluate("test")
    assert measured["psnr"] == run.evaluate("test")["psnr"] and measured["protocol"]["n_views"] == 2
    assert loaded.cameras.sizes.unique().tolist() == [16]


def test_scenes_and_runs_say_what_they_are_in_a_line(data, tmp_path):
    scene = neurfield.load_scene(data, splits=("train", "test"))
    assert repr(scene) == "Scene('lighthouse': 12 train, 2 test views, 32 x 32 pixels)"
    sizes = torch.cat([scene.cameras.sizes[1:], torch.tensor([[48, 20]])])
    images = [*scene.images[1:], torch.zeros(20, 48, 4, dtype=torch.uint8)]
    mixed = dataclasses.replace(
        scene, cameras=dataclasses.replace(scene.cameras, sizes=sizes), images=images, splits={}
    )
    assert repr(mixed) == "Scene('lighthouse': no views, up to 32 x 32 pixels)"
    run = train(scene, output_dir=tmp_path / "out")
    assert repr(run) == f"Run(ngp-fast, step {STEPS}, {run.path})"
    assert repr(train(scene)) == f"Run(ngp-fast, step {STEPS})"
    assert repr(run.cameras) == "Cameras(14 views, pinhole, 32 x 32 pixels)"
    assert repr(run.views) == f"ViewSet('lighthouse', {run.cameras})"
    assert repr(run.cameras[:0]) == "Cameras(0 views)"


def test_one_word_where_several_may_stand(data, tmp_path):
    scene = neurfield.load_scene(data)
    run = neurfield.train(scene, "ngp-fast", overrides="loss.distortion=0.5", max_num_iterations=1)
    assert run.config.method.loss.distortion == 0.5
    assert neurfield.load_method("ngp-fast", "loss.distortion=0.5").loss.distortion == 0.5
    assert run.render(scene.cameras[0], "depth").keys() == {"depth"}
    run.export_views(tmp_path / "views", scene.cameras[:1], outputs="depth")
    assert (tmp_path / "views/depth/00000.npy").is_file()
    for camera, got in ((0, "0"), (scene.cameras, "14")):
        with pytest.raises(ValueError, match=rf"expected one view, as run.cameras\[0\], got {got}$"):
            run.render(camera)


def test_a_run_without_files_is_kept_by_its_name(data, tmp_path):
    run = train(neurfield.load_scene(data))
    path = run.save(tmp_path / "kept.safetensors")
    kept = neurfield.load(path)
    assert kept.step == run.step and kept.evaluate()["psnr"] == run.evaluate()["psnr"]
    with pytest.raises(UserError, match="overwrite=True"):
        run.save(path)
    assert neurfield.load(run.save(path, overwrite=True)).config == run.config
    (tmp_path / "other.safetensors").write_bytes(b"not ours")
    for name, message in (("kept", "of the run itself"), ("other", "no small file"), ("kept.ply", "the name of a")):
        with pytest.raises(UserError, match=message) as caught:
            kept.save((tmp_path / name).with_suffix(Path(name).suffix or ".safetensors"), overwrite=True)
        assert "--" not in str(caught.value)  # which is of the command
    picture = neurfield.train_signal(next((data / "train").iterdir()), max_num_iterations=1)
    assert neurfield.load(picture.save(tmp_path / "picture.safetensors")).info == picture.info


def test_a_run_in_one_look_is_not_saved_for_the_whole(tmp_path):
    overrides = [*SMALL, "field.appearance_channels=2"]
    run = neurfield.train(ball_scene(4), "ngp-fast", overrides=overrides, max_num_iterations=1)
    assert neurfield.load(run.save(tmp_path / "all.safetensors")).n_appearances == 4
    with pytest.raises(UserError, match="save the whole run"):
        run.at(appearance=1).save(tmp_path / "one.safetensors")


def test_cameras_and_points_are_written_from_python(data, tmp_path):
    run = train(neurfield.load_scene(data))
    run.export_cameras(tmp_path / "cameras.json")
    assert (tmp_path / "cameras.json").is_file()
    assert 0 < run.export_pointcloud(tmp_path / "points.ply", n_points=100) <= 100


def test_overrides_and_reports(data):
    said: list[str] = []
    run = train(neurfield.load_scene(data), seed=3, report=said.append)
    assert run.config.method.field.encoding["n_levels"] == 4 and run.config.seed == 3 and run.step == STEPS
    method = neurfield.load_method("ngp-fast")
    changed = neurfield.train(ball_scene(4), method, overrides=("loss.distortion=0.5",), max_num_iterations=1)
    assert changed.config.method.loss.distortion == 0.5
    with pytest.raises(UserError, match=r"unknown key 'loss\.distorsion'"):
        neurfield.train(ball_scene(4), method, overrides=("loss.distorsion=0.5",))


def interrupt(report: StepReport) -> None:
    if report.step == STEPS // 2:
        signal.raise_signal(signal.SIGINT)


def test_resume_goes_on_to_the_same_bits(data, tmp_path):
    scene = neurfield.load_scene(data)
    whole = train(scene, output_dir=tmp_path / "whole", seed=5)
    half = train(scene, output_dir=tmp_path / "half", seed=5, on_step=interrupt)
    assert half.step == STEPS // 2
    resumed = neurfield.train(scene, resume=half.path.parents[1])
    assert resumed.step == STEPS and resumed.path.parent == half.path.parent
    ours, theirs = (checkpoint.load(run.path)[0] for run in (resumed, whole))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_resume_refuses_what_would_change_the_run(data, tmp_path):
    scene = neurfield.load_scene(data)
    run = train(scene, output_dir=tmp_path).path.parents[1]
    with pytest.raises(UserError, match="the run has the seed 42"):
        neurfield.train(scene, resume=run, seed=1)
    with pytest.raises(UserError, match="--downscale-factor 2: the run was trained with 1"):
        neurfield.train(neurfield.load_scene(data, downscale_factor=2), resume=run)
    with pytest.raises(UserError, match="a resumed run keeps its method and its folder"):
        neurfield.train(scene, "ngp", resume=run)
    with pytest.raises(UserError, match="no such run"):
        neurfield.train(scene, resume=tmp_path / "none")


def test_views_become_a_folder_or_a_video(data, tmp_path):
    run = train(neurfield.load_scene(data))
    path = run.export_views(
        tmp_path / "views", neurfield.interpolate(run.cameras, 3), outputs=("rgb", "depth"), names="abc"
    )
    frames = json.loads((path / "frames.json").read_text())["frames"]
    assert [frame["files"]["depth"] for frame in frames] == ["depth/a.npy", "depth/b.npy", "depth/c.npy"]
    for options, message in (
        ({"outputs": ("rbg",)}, "unknown output 'rbg', did you mean 'rgb'"),
        ({"depth_kind": "y"}, "unknown kind of depth 'y'"),
        ({"depth_format": "tiff"}, "unknown depth format 'tiff'"),
        ({}, "exists; choose another --output"),
    ):
        with pytest.raises(UserError, match=message):
            run.export_views(path, run.cameras, **options)
    for cameras, names, message in (
        (run.cameras[:3], "ab", "expected 3 different names for 3 views, got 2, 2 of them different"),
        (run.cameras[:3], "aba", "expected 3 different names for 3 views, got 3, 2 of them different"),
        (run.cameras[:1], ["../../elsewhere"], "cannot be the name of a picture"),
        (run.cameras[:0], None, "no views to be rendered"),
    ):
        with pytest.raises(UserError, match=message):
            run.export_views(tmp_path / "other", cameras, names=names)
    assert not (tmp_path / "other").exists() and not list(tmp_path.rglob("elsewhere*"))
