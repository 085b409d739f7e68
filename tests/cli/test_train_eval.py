# SPDX-License-Identifier: Apache-2.0
"""train, eval and doctor as a user runs them: files, figures, exit codes, one-line errors, nothing half-written."""

import dataclasses
import importlib.metadata
import json
import shlex
import weakref

import pytest

from neurfield.cli import train
from neurfield.cli.main import main
from neurfield.data.load import decode
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_synthetic(ball_scene(), tmp_path_factory.mktemp("data") / "ball")


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("outputs")
    words = ["train", str(data), "--output_dir", str(output), "--max-num-iterations", "100", "--set", *SMALL]
    assert main([*words, "--timestamp", "first"]) == 0
    return output / "ball" / "ngp-fast" / "first"


def one_line(capsys) -> str:
    error = capsys.readouterr().err
    assert error.startswith("neurfield: ") and error.count("\n") == 1, error
    return error


def test_training_leaves_a_run_and_says_what_it_did(data, tmp_path, capsys):
    words = ["train", str(data), f"--output-dir={tmp_path}", "--max-num-iterations=5", "--experiment-name", "x"]
    assert main([*words, "--set", *SMALL]) == 0
    out = capsys.readouterr().out
    for part in ("24 train", "2 test", "unit space", "memory:", "5 steps", "test: PSNR"):
        assert part in out, out
    (folder,) = (tmp_path / "x" / "ngp-fast").iterdir()
    assert [path.name for path in (folder / "checkpoints").iterdir()] == ["step-000000005.safetensors"]
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 5 and last["test/psnr"] > 0


def interrupt(*arguments, **options):
    raise KeyboardInterrupt


def test_who_interrupts_the_measuring_keeps_the_run_and_is_told_how_to_measure_it(data, tmp_path, monkeypatch, capsys):
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "3", "--timestamp", "t"]
    with monkeypatch.context() as patch:
        patch.setattr(train, "evaluate", interrupt)
        assert main([*words, "--eval-split", "train", "--set", *SMALL]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not measured")]
    command = shlex.split(line.partition(": neurfield ")[2])
    assert command == ["eval", str(tmp_path / "ball/ngp-fast/t"), "--split", "train"]
    assert main(command) == 0


@pytest.mark.parametrize(("limit", "is_warned"), [(2 * 32 * 32 - 1, True), (2 * 32 * 32, False)])
def test_of_many_pixels_to_be_measured_the_user_is_warned_before_the_training(
    limit, is_warned, data, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(train, "_MANY_PIXELS", limit)
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "1", "--set", *SMALL]
    assert main(words) == 0
    before, _, _ = capsys.readouterr().out.partition("files in")
    assert ("note: the 2 test views have 0 megapixels, which may take longer to measure" in before) == is_warned


def test_images_are_not_kept_beside_those_that_are_trained_on(data, tmp_path, monkeypatch):
    """A scene as it was read is as large as what is trained on."""
    scenes, alive = [], []

    def kept(*arguments):
        scene = decode(*arguments)
        scenes.append(weakref.ref(scene.images[0]))
        return scene

    monkeypatch.setattr(train, "decode", kept)
    begun = train.Session

    def session(*arguments):
        alive.append(scenes[0]() is not None)
        return begun(*arguments)

    monkeypatch.setattr(train, "Session", session)
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "1", "--set", *SMALL]
    assert main(words) == 0 and alive == [False]


def test_a_budget_of_less_than_reading_takes_is_refused_with_that_time(data, tmp_path, capsys):
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-seconds", "1e-3", "--set", *SMALL]
    assert main(words) == 2
    assert "used up before the first step: the data were ready after" in one_line(capsys)
    assert not list(tmp_path.rglob("*"))


def test_eval_prints_json_and_writes_it(trained, tmp_path, capsys):
    assert main(["eval", str(trained), "--output", str(tmp_path / "metrics.json")]) == 0
    capsys.readouterr()
    assert main(["eval", str(trained)]) == 0
    printed = json.loads(capsys.readouterr().out)
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert printed["psnr"] == written["psnr"] > 12 and printed["step"] == 100
    assert printed["protocol"]["split"] == "test" and len(printed["per_image"]) == 2
    assert main(["eval", str(trained), "--rays-per-pixel", "4"]) == 0
    finer = json.loads(capsys.readouterr().out)
    assert finer["psnr"] != printed["psnr"]
    assert (printed["protocol"]["rays_per_pixel"], finer["protocol"]["rays_per_pixel"]) == (1, 4)


def test_eval_refuses_data_of_another_run(trained, tmp_path, capsys):
    scene = ball_scene()
    cameras = dataclasses.replace(scene.cameras, c2w=scene.cameras.c2w.flip(0))
    other = write_synthetic(dataclasses.replace(scene, cameras=cameras), tmp_path / "other")
    assert main(["eval", str(trained), "--data", str(other)]) == 2
    assert f"other: its 2 test views, or their map into unit space, are not those of {trained}" in one_line(capsys)
    moved = write_synthetic(scene, tmp_path / "moved")
    assert main(["eval", str(trained), "--data", str(moved)]) == 0


def test_what_needs_data_that_were_moved_says_how_to_name_them(data, trained, tmp_path, capsys):
    data.rename(tmp_path / "moved")
    try:
        for words in (["eval"], ["export", "cameras"], ["convert", "--to", "kilonerf"]):
            assert main([*words, str(trained), "--output", str(tmp_path / "new.json")]) == 2
            assert f"{data}: the data of this run are no longer there; if they" in (error := one_line(capsys))
            assert "give --data" in error
        assert main(["train", str(trained)]) == 2
        assert "go on with it: neurfield train DATA --resume" in one_line(capsys)
        assert main(["eval", str(trained), "--data", str(tmp_path / "moved")]) == 0
    finally:
        (tmp_path / "moved").rename(data)


def test_a_checkpoint_file_is_a_run_too(trained, capsys):
    (checkpoint,) = (trained / "checkpoints").iterdir()
    assert main(["eval", str(checkpoint), "--split", "train"]) == 0
    assert json.loads(capsys.readouterr().out)["protocol"]["n_views"] == 24


def test_resume_goes_on_to_a_new_budget(data, trained, capsys):
    words = ["train", str(data), "--output-dir", str(trained.parents[2]), "--timestamp", "first", "--resume"]
    assert main([*words, "--max-num-iterations", "110"]) == 0
    assert "110 steps" in capsys.readouterr().out
    assert (trained / "checkpoints" / "step-000000110.safetensors").exists()


def test_intermediate_evaluations_are_logged(data, tmp_path, capsys):
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "3", "--timestamp", "t"]
    assert main([*words, "--seconds-per-eval", "1e-6", "--set", *SMALL]) == 0
    assert "measuring does not count" in capsys.readouterr().out
    lines = (tmp_path / "ball/ngp-fast/t/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines if "test/psnr" in line] == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{data}/none"], "none: no such file or folder"),
        (["{data}", "--method", "npg"], "unknown method 'npg', did you mean 'ngp'"),
        (
            ["{data}", "--method", "sdf"],
            "the method 'sdf' is for single files (an image, a mesh, a video, a volume), the data is a scene; leave "
            "--method out, or give one of kilonerf, nerf, ngp-big",
        ),
        (["{data}", "--set", "optimizer.lr=3"], "--set optimizer.lr=3: unknown key 'optimizer.lr'"),
        (["{data}", "--set", "field.encoding.n_levls=3"], "'n_levls', did you mean 'n_levels'"),
        (["{data}", "--set", "training.n_samples=1"], "expected 256 ... 4.1943e+06, got '1'"),
        (["{data}", "--device", "cuda"], "device cuda cannot be used"),
        (["{data}", "--device", "cuda", "--method", "kilonerf"], "device cuda cannot be used"),
        (["{data}", "--max-seconds", "-1"], "neurfield: --max-seconds: expected at least 0, got -1.0"),
        (["{data}", "--seed", "-1"], "neurfield: --seed: expected 0 ... "),
        (["{data}", "--experiment-name", "../x"], "cannot be a folder name"),
        (["{data}", "--resume"], "no run with a checkpoint to resume"),
        (["{data}", "--eval-split", "tset"], "--eval-split: unknown split 'tset', did you mean 'test'"),
        (["{data}", "--eval-split", "val"], "no views in val (the data set has 24 train, 0 val, 2 test)"),
        (["{data}", "--eval-split", "none", "--seconds-per-eval", "1"], "--seconds-per-eval needs views to measure"),
        (["{data}", "--seconds-per-eval", "0"], "--seconds-per-eval: expected more than 0, got 0"),
        (["{data}", "--downscale-factor", "3"], "views of 10 x 10 pixels are too small to be measured, SSIM needs 11"),
        (["{data}", "--output-dir", "{data}/transforms_train.json"], "choose another --output-dir"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(words, message, data, tmp_path, capsys):
    before = sorted(data.rglob("*"))
    words = [word.format(data=data) for word in words]
    if "--output-dir" not in words:
        words += ["--output-dir", str(tmp_path)]
    assert main(["train", *words, "--max-num-iterations", "1"]) == 2
    assert message in one_line(capsys)
    assert not list(tmp_path.iterdir()) and sorted(data.rglob("*")) == before


def test_the_memory_plan_comes_before_any_image_is_decoded(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(train, "decode", lambda *arguments: pytest.fail("decoded"))
    with pytest.raises(pytest.fail.Exception):
        main(["train", str(data), "--output-dir", str(tmp_path), "--set", *SMALL])
    assert "memory: " in capsys.readouterr().out


def test_a_method_file_is_named_with_its_line(data, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("name: mine\nsampler: {step_scael: 2}\n")
    assert main(["train", str(data), "--method", str(tmp_path / "mine.yaml"), "--output-dir", str(tmp_path)]) == 2
    assert "mine.yaml:2: unknown key 'sampler.step_scael', did you mean 'step_scale'" in one_line(capsys)


def test_an_existing_run_folder_is_refused(data, trained, capsys):
    words = ["train", str(data), "--output-dir", str(trained.parents[2]), "--timestamp", "first"]
    before = sorted(trained.rglob("*"))
    assert main([*words, "--max-num-iterations", "1"]) == 2
    assert "exists already" in one_line(capsys)
    assert sorted(trained.rglob("*")) == before


@pytest.mark.parametrize(
    "words", ["eval {run}", "render {run} --output {out}/v", "export mesh {run} --output {out}/m.ply"]
)
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 pickles", None], ids=["empty", "foreign", "truncated"])
def test_a_broken_checkpoint_is_refused(words, content, trained, tmp_path, capsys):
    (whole, *_) = (trained / "checkpoints").iterdir()
    path = tmp_path / "broken.safetensors"
    path.write_bytes(whole.read_bytes()[:-100] if content is None else content)
    assert main([word.format(run=path, out=tmp_path) for word in words.split()]) == 2
    assert "not a whole neurfield checkpoint" in one_line(capsys)
    assert list(tmp_path.iterdir()) == [path]


def test_data_without_test_views_are_trained_and_not_measured(data, tmp_path, capsys):
    (tmp_path / "ball").mkdir()
    (tmp_path / "ball/train").symlink_to(data / "train")
    (tmp_path / "ball/transforms_train.json").symlink_to(data / "transforms_train.json")
    words = ["train", str(tmp_path / "ball"), "--output-dir", str(tmp_path / "out"), "--max-num-iterations", "1"]
    assert main([*words, "--allow-outside", "--set", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "note: no test views, nothing will be measured" in out and "PSNR" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["{run}/none"], "no such run"),
        (["{run}/config.yaml"], "config.yaml: not a run; expected a run folder or a .safetensors file"),
        (["{run}/checkpoints"], "no checkpoints/step-*.safetensors in this folder; expected the folder that"),
        (["{run}/.."], "in this folder; did you mean"),
        (["{run}", "--split", "tset"], "no views in split 'tset'"),
        (["{run}", "--output", "{run}/config.yaml/m.json"], "config.yaml is a file; choose another --output"),
        (["{run}", "--output", "{run}/checkpoints"], "checkpoints is a folder; choose another --output"),
        (["{run}", "--data", "{run}/none"], "no such file or folder"),
    ],
)
def test_wrong_eval_input_is_one_line(words, message, trained, capsys):
    assert main(["eval", *(word.format(run=trained) for word in words)]) == 2
    assert message in one_line(capsys)


def test_a_run_in_place_of_the_data_is_told_how_to_go_on(data, tmp_path, capsys):
    words = ["--output-dir", str(tmp_path / "out"), "--experiment-name", "a", "--timestamp", "t"]
    assert main(["train", str(data), *words, "--max-num-iterations", "1", "--eval-split", "none", "--set", *SMALL]) == 0
    (run,) = (tmp_path / "out").glob("*/*/t")
    for flags in ([], ["--resume"]):
        capsys.readouterr()
        assert main(["train", str(run), *flags, "--output-dir", str(tmp_path / "other")]) == 2
        error, _, command = one_line(capsys).partition("; go on with it: neurfield ")
        assert error.endswith(f"{run}: a run, no data")
    assert main([*shlex.split(command), "--max-num-iterations", "2", "--eval-split", "none"]) == 0
    assert "2 steps in" in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--max-secnds", "--splits"])
def test_an_unknown_flag_is_wrong_use(flag, data):
    with pytest.raises(SystemExit) as stop:
        main(["train", str(data), flag, "3"])
    assert stop.value.code == 2


def test_doctor_names_packages_that_are_too_old(capsys, monkeypatch):
    versions = {"av": "14.4.0", "OpenEXR": "3.4.0", "torch": "2.13.0+cpu", "numpy": "2.4.0rc1", "trimesh": "4.6.13"}
    versions |= {"nerfacc": "missing", "rich": "12.6"}
    real = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: versions.get(name) or real(name))
    wanted = ["torch>=2.6", "numpy>=1.26", "av>=17", "OpenEXR>=3.4", "xatlas"]
    wanted += ["rich!=13.1,<15,>=13", 'trimesh>=4.7; extra == "mesh"', 'nerfacc>=9; extra == "none"']
    wanted += ['tensorboard>=999; extra == "dev"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    assert main(["doctor"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "--upgrade" in line]
    assert line == "these are older than neurfield can use: pip install --upgrade 'av>=17' 'rich>=13' 'trimesh>=4.7'"


def test_doctor_says_what_is_used_and_tests_it(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for part in ("native core:", "threads:", "device: cpu (", "torch", "ok      hash grid", "self-test took"):
        assert part in out
    assert "FAILED" not in out
