# SPDX-License-Identifier: Apache-2.0
"""Checkpoints whose headers promise what no data has, or more than the file holds, are refused in one line."""

import copy
import math

import pytest

import neurfield
from neurfield.cli.main import main
from neurfield.errors import UserError
from neurfield.run import load
from neurfield.training import checkpoint
from neurfield.training.resume import newest_whole
from neurfield.training.run_folder import RunFolder
from tests.scenes import ball_scene
from tests.signals.files import write_picture
from tests.training.test_trainer import SMALL

QUICK = ("field.encoding.n_levels=6", "field.encoding.log2_hashmap_size=12", "training.n_samples=2048")
LARGE = {
    "otype": "HashGrid",
    "n_levels": 16,
    "n_features_per_level": 8,
    "log2_hashmap_size": 22,
    "per_level_scale": 2.0,
}


def trained_picture(folder):
    picture = write_picture(folder / "p.png")
    words = ["train", str(picture), "--output-dir", str(folder), "--timestamp", "t", "--max-num-iterations", "1"]
    assert main([*words, "--set", *QUICK]) == 0
    return load(folder / "p" / "image" / "t")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return trained_picture(tmp_path_factory.mktemp("picture"))


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scene")
    return neurfield.train(ball_scene(), "ngp-fast", max_num_iterations=1, overrides=SMALL, output_dir=folder)


def crafted(path, run, change, keep: bool = True):
    """A copy of a run's checkpoint, changed; without its tensors if they are not to be kept."""
    tensors, header = checkpoint.load(run.path)
    header = copy.deepcopy(header)
    header.pop("schema_version")
    tensors = tensors if keep else {name: value for name, value in tensors.items() if name.startswith("cameras.")}
    change(header, tensors)
    checkpoint.save(path, tensors, header)
    return path


def large(header, tensors):
    header["config"]["method"]["field"]["encoding"] = LARGE


@pytest.mark.parametrize(
    ("kind", "form"),
    [("picture", "none"), ("picture", "whole"), ("scene", "none"), ("scene", "whole"), ("scene", "int8")],
)
def test_no_field_is_built_that_the_file_does_not_hold(kind, form, request, tmp_path, monkeypatch):
    run = request.getfixturevalue(kind)
    if form == "int8":
        assert main(["convert", str(run.path), "--to", "int8", "--output", str(tmp_path / "s.safetensors")]) == 0
        run = load(tmp_path / "s.safetensors")
    path = crafted(tmp_path / "checkpoints" / "step-000000001.safetensors", run, large, form != "none")
    build = type(run.field).__init__

    def shapes_only(field, *arguments, **options):
        build(field, *arguments, **options)
        assert any(parameter.is_meta for parameter in field.parameters())

    monkeypatch.setattr(type(run.field), "__init__", shapes_only)
    with pytest.raises(UserError, match="the parts of this checkpoint do not fit each other"):
        load(path)
    if kind == "scene":
        with pytest.raises(UserError, match="none of its checkpoints can be continued"):
            newest_whole(RunFolder(tmp_path), lambda line: None)


@pytest.mark.parametrize(
    "change",
    [
        {"dtype": "nonsense"}, {"dtype": "object"}, {"sizes": [32, -40]}, {"sizes": [0, 40]}, {"sizes": []},
        {"low": math.inf}, {"high": 0.0}, {"suffix": "/../../x.png"}, {"fps": 0.0}, {"n_channels": 0},
        {"affine": [1.0]}, {"sizes": "many"},
    ],
    ids=str,
)  # fmt: skip
def test_what_no_picture_has_is_refused(picture, tmp_path, change):
    path = crafted(tmp_path / "m.safetensors", picture, lambda header, _: header["signal"].update(change))
    with pytest.raises(UserError, match=r"m\.safetensors: "):
        load(path)


def _fill(name, value, where=...):
    def change(header, tensors):
        tensors[f"cameras.{name}"][where] = value

    return change


def _set(block, key, value):
    def change(header, tensors):
        header[block][key] = value

    return change


def _cut(name):
    def change(header, tensors):
        tensors[f"cameras.{name}"] = tensors[f"cameras.{name}"][:, :2]

    return change


CHANGES = {
    "scale 0": _set("normalization", "scale", 0.0),
    "scale NaN": _set("normalization", "scale", math.nan),
    "scale text": _set("normalization", "scale", "x"),
    "offset of two": _set("normalization", "offset", [0.0, 1.0]),
    "offset beyond floats": _set("normalization", "offset", [10**400, 0, 0]),
    "origin of two": _set("normalization", "origin", [0.0, 1.0]),
    "origin NaN": _set("normalization", "origin", [0.0, 0.0, math.nan]),
    "origin of nothing": _set("normalization", "origin", None),
    "origin beyond floats": _set("normalization", "origin", [10**400, 0, 0]),
    "box of 3": _set("normalization", "aabb_scale", 3),
    "box of 2.0": _set("normalization", "aabb_scale", 2.0),
    "a view that is not there": _set("scene", "splits", {"test": [9999]}),
    "a split of text": _set("scene", "splits", {"test": "abc"}),
    "a list of splits": _set("scene", "splits", [1]),
    "paths of numbers": _set("scene", "paths", [1, 2]),
    "a path for many views": _set("scene", "paths", ["a.png"]),
    "no text as name": _set("scene", "name", 1),
    "two rows": _cut("c2w"),
    "poses NaN": _fill("c2w", math.nan, 0),
    "sizes below 0": _fill("sizes", -5),
    "sizes without end": _fill("sizes", 1 << 40),
    "model 77": _fill("models", 77),
    "lens NaN": _fill("intrinsics", math.nan),
    "focal length 0": _fill("intrinsics", 0.0),
    "time 2": _fill("times", 2.0),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_no_scene_has_is_refused(scene, tmp_path, change):
    path = crafted(tmp_path / "m.safetensors", scene, CHANGES[change])
    with pytest.raises(UserError, match=r"m\.safetensors: the parts of this checkpoint do not fit each other"):
        load(path)


@pytest.mark.parametrize("seed", [0, (1 << 63) - 1])
def test_seeds_of_63_bits_are_taken(tmp_path, seed):
    picture = write_picture(tmp_path / "p.png")
    words = ["train", str(picture), "--output-dir", str(tmp_path), "--max-num-iterations", "2", "--set", *QUICK]
    assert main([*words, "--seed", str(seed), "--auto-frequency"]) == 0
    run = neurfield.train(
        ball_scene(), "ngp-fast", max_num_iterations=2, overrides=SMALL, seed=seed, output_dir=tmp_path
    )
    assert load(run.path).config.seed == seed


@pytest.mark.parametrize("seed", [-5, 1 << 63, 99999999999999999999999])
def test_other_seeds_are_refused_by_name(tmp_path, seed, capsys):
    picture = write_picture(tmp_path / "p.png")
    words = ["train", str(picture), "--output-dir", str(tmp_path / "out"), "--max-num-iterations", "1"]
    for more in ([], ["--auto-frequency", "--method", "image-fourier"]):
        assert main([*words, "--seed", str(seed), *more]) == 2
        assert capsys.readouterr().err.startswith("neurfield: --seed: expected 0 ... 9.22337e+18, got")
    assert not (tmp_path / "out").exists()
