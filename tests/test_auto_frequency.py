# SPDX-License-Identifier: Apache-2.0
"""The choice of a frequency before training, by commands and from Python, for signals of every kind and for scenes."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

import neurfield
from neurfield import auto_frequency, ops, run
from neurfield.cli.main import main
from neurfield.data import signals
from neurfield.encodings import Grid
from neurfield.errors import UserError
from neurfield.fresh.candidates import GRID_INIT_RANGE, OF_ACTIVATIONS, OF_ENCODINGS
from neurfield.fresh.choose import WORTH
from neurfield.signal_kinds import KINDS
from neurfield.training.method import MethodConfig, load_method, signal_presets
from neurfield.training.schedule import Budget
from neurfield.training.signal_method import load_signal_method
from neurfield.training.trial import Trials
from tests.meshes import icosphere
from tests.scenes import ball_scene, write_synthetic
from tests.signals.files import write_obj, write_picture, write_video
from tests.training.test_trainer import SMALL

NARROW = ("field.network.n_neurons=32", "field.network.n_hidden_layers=2", "training.n_samples=1024")


def chosen(method, key: str):
    part, name = key.split(".")
    return getattr(method.field, part)[name]


@pytest.fixture
def error(capsys):
    return lambda: capsys.readouterr().err.splitlines()[-1]


def test_the_choice_is_what_is_trained_and_kept(tmp_path, capsys):
    path = write_picture(tmp_path / "p.png")
    words = ["train", str(path), "--method", "image-fourier", "--output-dir", str(tmp_path / "out")]
    words += ["--timestamp", "t", "--max-num-iterations", "3", "--auto-frequency", "--set", *NARROW]
    assert main(words) == 0
    folder = tmp_path / "out/p/image-fourier/t"
    report = json.loads((folder / "frequency.json").read_text())
    said = capsys.readouterr().out
    assert f"frequency: encoding.sigma = {report['value']:g} of 1 ... " in said and "chosen in" in said
    trained = run.load(folder)
    assert trained.config.method.field.encoding["sigma"] == report["value"] != 10  # the preset's
    assert report["key"] == "encoding.sigma" and report["candidates"][0]["value"] == 1
    # 48 samples on the shorter side cannot show what has 4 sigma > 48
    assert report["left_out"] == list(range(13, 21)) and len(report["target"]) == 24
    frequencies = trained.field.encoding.frequencies
    assert float(frequencies.std()) == pytest.approx(report["value"], rel=0.15)
    picture = np.asarray(Image.open(folder / "frequency.png").convert("RGB"))
    assert picture.shape == (400, 1120, 3) and len(np.unique(picture.reshape(-1, 3), axis=0)) > 4
    assert main([*words[:8], "--resume", "--max-num-iterations", "5"]) == 0  # without the flag it goes on as it was
    assert run.load(folder).config.method.field.encoding["sigma"] == report["value"]


def test_trials_decide_where_the_budget_has_room(tmp_path, capsys):
    """An image with steps enough: what the trials chose is what is trained, and the report has them."""
    path = write_picture(tmp_path / "p.png")
    words = ["train", str(path), "--method", "image-fourier", "--output-dir", str(tmp_path / "out"), "--timestamp", "t"]
    words += ["--max-num-iterations", "340", "--auto-frequency", "--set", *NARROW[:2], "training.n_samples=4096"]
    assert main(words) == 0
    folder = tmp_path / "out/p/image-fourier/t"
    report = json.loads((folder / "frequency.json").read_text())
    said = capsys.readouterr().out
    assert (
        f"frequency: encoding.sigma = {report['value']:g} of 1 ... 12, best of {len(report['trials'])} trials" in said
    )
    assert [t["value"] for t in report["trials"]][:2] == [10, report["nearest"]]  # the preset's first
    assert 2 <= len(report["trials"]) <= auto_frequency.MAX_TRIALS
    chosen_psnr = next(t["psnr"] for t in report["trials"] if t["value"] == report["value"])
    assert all(t["psnr"] <= chosen_psnr + WORTH for t in report["trials"])
    assert run.load(folder).config.method.field.encoding["sigma"] == report["value"]
    assert Image.open(folder / "frequency.png").size == (1680, 400)


def test_a_method_that_is_better_as_it_is_stays(tmp_path, monkeypatch):
    signal, budget = signals.read(write_picture(tmp_path / "p.png")), Budget(max_num_iterations=1000)
    monkeypatch.setattr(Trials, "psnr", lambda self, m: 20.0 + ("init_range" not in m.field.encoding))
    method = load_signal_method("image", "image")
    found, choice = auto_frequency.for_signal(method, signal, budget=budget)
    assert found is method and choice.value is None and len(choice.trials) == 2
    said = auto_frequency.describe(choice)
    assert "encoding.max_resolution = the method's own, best of 2 trials" in said and "small tables" not in said
    assert not auto_frequency.for_signal(method, signal)[1].trials  # without a budget the spectra alone
    short = auto_frequency.for_signal(method, signal, budget=Budget(max_num_iterations=50))[1]
    assert not short.trials and short.value == short.values[short.index]  # too few steps to tell
    monkeypatch.setattr(
        auto_frequency.time, "perf_counter", iter(range(10**6)).__next__
    )  # a second passes at every look
    assert not auto_frequency.for_signal(method, signal, budget=Budget(max_seconds=20))[1].trials


def test_contradictions_are_refused(tmp_path, error):
    path = write_picture(tmp_path / "p.png")
    out = ["--output-dir", str(tmp_path / "out"), "--max-num-iterations", "2", "--auto-frequency"]
    for words, message in (
        (["--method", "image-fourier", "--set", "field.encoding.sigma=3"], "chooses field.encoding.sigma, and --set"),
        (["--set", "field.finest=0.5"], "chooses field.encoding.max_resolution, and --set field.finest=0.5 does"),
        (["--set", "field.encoding={otype: HashGrid, per_level_scale: 1.5}"], "chooses field.encoding.max_resolution"),
        (["--set", "field={finest: 0.5}"], "chooses field.encoding.max_resolution, and --set field={finest: 0.5} does"),
        (["--set", "field.encoding.n_levels=many"], "encoding HashGrid: n_levels: expected an integer, got 'many'"),
        (
            ["--set", "field.encoding.base_resolution=0"],
            "encoding Grid: base_resolution must be in [2, 1048576], got 0",
        ),
        (
            ["--method", "image-finer", "--set", "field.encoding.scale=abc"],
            "encoding Identity: scale: expected a number, got 'abc'",
        ),
        (
            ["--method", "image-finer", "--set", "field.network.omega=xx"],
            "network MLP: omega: expected a number, got 'xx'",
        ),
        (["--method", "image-sape"], "no parameter that is known to choose its frequencies (encoding SAPE"),
        (["--resume"], "a resumed run keeps its frequencies"),
    ):
        assert main(["train", str(path), *out, *words]) == 2
        assert message in error()
    Image.new("RGB", (32, 32), "red").save(tmp_path / "red.png")
    assert main(["train", str(tmp_path / "red.png"), *out]) == 2
    assert "the signal has no spectrum" in error()
    assert not (tmp_path / "out").exists()
    scene = ball_scene()
    with pytest.raises(UserError, match="a kilonerf field is made from a teacher"):
        auto_frequency.for_scene(load_method("kilonerf"), scene)


@pytest.mark.parametrize("name", [n for n in signal_presets() if n.startswith("image") and n != "image-sape"])
def test_every_preset_for_images_has_a_parameter(name, tmp_path):
    signal = signals.read(write_picture(tmp_path / "p.png", 64, 64))
    method = load_signal_method(name, "image", ("field.network.n_neurons=32",))
    found, choice = auto_frequency.for_signal(method, signal)
    known = {p.key for p in (*OF_ENCODINGS.values(), *OF_ACTIVATIONS.values())}
    assert choice.key in known and choice.seconds > 0
    if choice.key != "encoding.max_resolution":
        assert chosen(found, choice.key) == choice.value
    assert dataclasses.replace(found, field=method.field) == method  # nothing else has changed
    assert KINDS["image"].field(found.field, signal.info, 1).n_params > 0


def test_grids_start_as_they_were_judged(tmp_path):
    signal = signals.read(write_picture(tmp_path / "p.png", 64, 64))
    found, choice = auto_frequency.for_signal(load_signal_method("image", "image"), signal)
    field = KINDS["image"].field(found.field, signal.info, 1)
    assert isinstance(field.encoding, Grid)
    assert field.encoding.config.levels()[-1].resolution == choice.value in (32, 64)
    assert float(field.encoding.params.detach().abs().max()) == pytest.approx(GRID_INIT_RANGE, rel=1e-3)
    mine = load_signal_method("image", "image", ("field.encoding.init_range=0.001",))
    assert auto_frequency.for_signal(mine, signal)[0].field.encoding["init_range"] == 0.001


def test_shapes_videos_and_volumes_have_spectra(tmp_path):
    vertices, faces = icosphere(4)
    volume = np.random.default_rng(1).random((16, 18, 20)).astype(np.float32)
    np.save(tmp_path / "v.npy", volume)
    files = {
        "sdf": write_obj(tmp_path / "ball.obj", vertices, faces),
        "video": write_video(tmp_path / "v.mp4", n=16, fps=12),
        "volume": tmp_path / "v.npy",
    }
    small = ("field.encoding.n_levels=4", "field.encoding.log2_hashmap_size=10")
    for kind, path in files.items():
        signal = signals.read(path, kind)
        sampled = KINDS[kind].sampled(signal)
        assert sampled.dim() == 4
        found, choice = auto_frequency.for_signal(load_signal_method(kind, kind, small), signal)
        assert choice.key == "encoding.max_resolution" and len(choice.target) <= 32
        assert found.field.encoding["per_level_scale"] >= 1
    distances = KINDS["sdf"].sampled(signals.read(files["sdf"]))[0]
    n = distances.shape[0]
    # the ball's radius is 0.45, facets lie up to a hundredth of it within, and cells are 1/64 wide
    assert float(distances[n // 2, n // 2, n // 2]) == pytest.approx(-0.45, abs=0.02)
    assert float(distances[0, n // 2, n // 2]) == pytest.approx(0.05, abs=0.02)


def test_scenes_are_compared_with_their_training_images(tmp_path, capsys):
    data = write_synthetic(ball_scene(size=48), tmp_path / "data")
    words = ["train", str(data), "--output-dir", str(tmp_path / "out"), "--timestamp", "t", "--auto-frequency"]
    overrides = [word for word in SMALL if "max_resolution" not in word]
    assert main([*words, "--max-num-iterations", "3", "--set", *overrides]) == 0
    assert "frequency: encoding.max_resolution = " in capsys.readouterr().out
    folder = tmp_path / "out/data/ngp-fast/t"
    report = json.loads((folder / "frequency.json").read_text())
    trained = run.load(folder)
    assert trained.field.encoding.config.levels()[-1].resolution == report["value"]
    assert trained.field.encoding.config.per_level_scale == trained.config.method.field.encoding["per_level_scale"]
    assert (folder / "frequency.png").exists()


def test_a_nerf_gets_its_octaves():
    field = ("field.width=32", "field.n_layers=2", "field.skip=1")
    found, choice = auto_frequency.for_scene(load_method("nerf", field), ball_scene(size=64))
    assert choice.key == "position_frequencies" and found.field.position_frequencies == choice.value
    assert isinstance(found, MethodConfig) and choice.values[0] == 2


def test_the_choice_leaves_time_to_train(tmp_path, error, monkeypatch):
    """It is told of a tenth of the seconds; a budget of which nothing is left is refused, and nothing is written."""
    given, choose = [], auto_frequency.fresh.choose
    monkeypatch.setattr(
        auto_frequency.fresh, "choose", lambda *args, **more: given.append(more["max_seconds"]) or choose(*args, **more)
    )
    path, data = write_picture(tmp_path / "p.png"), write_synthetic(ball_scene(), tmp_path / "data")
    words = ["--output-dir", str(tmp_path / "out"), "--max-seconds", "0.01", "--auto-frequency", "--set", *SMALL[:3]]
    for file in (path, data):
        assert main(["train", str(file), *words]) == 2
        assert "nothing is left of 0.01 s to train in; give more --max-seconds" in error()
    assert not (tmp_path / "out").exists()
    for train in (
        lambda: neurfield.train_signal(path, overrides=SMALL[:3], max_seconds=0.01, auto_frequency=True),
        lambda: neurfield.train(ball_scene(), "ngp-fast", overrides=SMALL[:3], max_seconds=0.01, auto_frequency=True),
    ):
        with pytest.raises(UserError, match="nothing is left of"):
            train()
    assert given == pytest.approx([0.001] * 4)
    neurfield.train_signal(path, overrides=SMALL[:3], max_num_iterations=1, auto_frequency=True)
    assert given[4] == math.inf


def test_slices_are_what_a_view_sees():
    """Where a position of a slice projects to is where it lies in the picture; all are as deep as the middle."""
    scene = ball_scene(size=40)
    camera = scene.unit_cameras("train")[5]
    camera = dataclasses.replace(camera, intrinsics=camera.intrinsics * torch.tensor([1.0, 1.2, 0.9, 1.1]))
    piece = auto_frequency._slice(camera)
    at = torch.rand(50, 2, generator=torch.Generator().manual_seed(1))
    pixels, depth = ops.project(camera, torch.zeros(50, dtype=torch.int64), piece.positions(at))
    torch.testing.assert_close(pixels, at * 40, atol=1e-3, rtol=0)
    torch.testing.assert_close(depth, depth[:1].expand(50), atol=1e-5, rtol=0)
    assert float((piece.positions(torch.full((1, 2), 0.5)) - 0.5).norm()) < 0.2


def test_a_camera_in_the_middle_sees_a_slice():
    """The middle is nowhere in front of it: the slice lies half the unit cube away and is as wide as the view there."""
    camera = ball_scene(size=40).unit_cameras("train")[5]
    camera.c2w[:, :, 3] = 0.5
    piece = auto_frequency._slice(camera)
    middle = piece.positions(torch.full((1, 2), 0.5))
    assert float((middle - 0.5).norm()) == pytest.approx(0.5, rel=1e-5)
    assert piece.extent == pytest.approx(0.5 * 40 / float(camera.intrinsics[0, 0]), rel=1e-5)


@pytest.mark.parametrize(("ahead", "aside"), [(0.2, 0), (-0.2, 0), (0.2, 0.1), (0, 0.2)])
def test_a_camera_in_the_cube_keeps_its_slice(ahead, aside):
    """The middle so far ahead of it and beside it; where it is not ahead, its distance counts."""
    camera = ball_scene(size=40).unit_cameras("train")[5]
    c2w = camera.c2w[0]
    c2w[:, 3] = 0.5 + ahead * c2w[:, 2] + aside * c2w[:, 0]
    piece = auto_frequency._slice(camera)
    assert piece.extent == pytest.approx(0.2 * 40 / float(camera.intrinsics[0, 0]), rel=1e-4)


def test_models_that_give_a_constant_are_refused(tmp_path):
    """Features that start at zero leave nothing to compare."""
    signal = signals.read(write_picture(tmp_path / "p.png", 64, 64))
    method = load_signal_method("image", "image", ("field.encoding.init_range=0",))
    with pytest.raises(UserError, match=r"no untrained model has a spectrum, whatever encoding\.max_resolution is"):
        auto_frequency.for_signal(method, signal)
    found = auto_frequency.for_signal(load_signal_method("image", "image"), signal)[1]
    noted = dataclasses.replace(found, flat=(2048.0,))
    assert "; 1 constant or not finite before training left out" in auto_frequency.describe(noted)


def test_python_chooses_too(tmp_path):
    lines = []
    path = write_picture(tmp_path / "p.png")
    made = neurfield.train_signal(
        path, "image-siren", overrides=NARROW, max_num_iterations=2, auto_frequency=True, report=lines.append
    )
    assert lines[0].startswith("frequency: network.first_omega = ")
    assert f"= {made.config.method.field.network['first_omega']:g} of" in lines[0]
    made = neurfield.train(
        ball_scene(), "ngp-fast", overrides=SMALL[:3], max_num_iterations=2, auto_frequency=True, report=lines.append,
        output_dir=tmp_path / "out",
    )  # fmt: skip
    assert lines[-1].startswith("frequency: ") and list((tmp_path / "out").glob("*/*/*/frequency.json"))
