# SPDX-License-Identifier: Apache-2.0
"""Training, measuring and drawing single files as a user does, with small ones; resume is exact."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield import metrics, run
from neurfield.cli import _console
from neurfield.cli.main import main
from neurfield.data import signals
from neurfield.errors import UserError
from neurfield.signal_kinds import SignalRender
from neurfield.signal_run import train_signal
from neurfield.training import checkpoint, device, grid_evaluation
from neurfield.training.method import signal_presets
from neurfield.training.signal_method import load_signal_method
from tests.meshes import icosphere
from tests.signals.files import picture, write_obj, write_picture, write_video

SMALL = (
    "field.encoding.n_levels=6", "field.encoding.log2_hashmap_size=12", "field.encoding.base_resolution=8",
    "training.n_samples=2048",
)  # fmt: skip


def train(path: Path, output: Path, steps: int, *words: str, overrides: tuple[str, ...] = SMALL) -> Path:
    words = ("train", str(path), "--output-dir", str(output), "--timestamp", "t", *words)
    sets = ("--set", *overrides) if overrides else ()
    assert main([*words, "--max-num-iterations", str(steps), *sets]) == 0
    (folder,) = output.glob("*/*/t")
    return folder


def command(*words: object) -> int:
    return main([str(word) for word in words])


@pytest.fixture
def error(capsys):
    def read() -> str:
        text = capsys.readouterr().err.splitlines()[-1]
        assert text.startswith("neurfield: "), text
        return text

    return read


def test_an_image_is_learned_measured_and_drawn(tmp_path, capsys):
    path = write_picture(tmp_path / "p.png")
    folder = train(path, tmp_path / "out", 150)
    assert folder == tmp_path / "out/p/image/t"
    said = capsys.readouterr().out
    assert "image: p.png: 64 x 48, RGB, uint8" in said and "bits per pixel" in said
    assert command("eval", folder) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["psnr"] > 30 and 0.9 < result["ssim"] <= 1 and result["bits_per_sample"] > 0
    assert command("render", folder, "--output", tmp_path / "back.png") == 0
    back = np.asarray(Image.open(tmp_path / "back.png"))
    # the measured PSNR is that of the file, up to rounding to 8 bits
    images = (torch.tensor(v).double() / 255 for v in (back, picture(48, 64)))
    assert metrics.psnr(*images) == pytest.approx(result["psnr"], abs=0.2)
    assert command("render", folder, "--output", tmp_path / "l.webp", "--resolution", 100, 30) == 0
    assert Image.open(tmp_path / "l.webp").size == (100, 30)
    assert command("render", folder, "--output", tmp_path / "h.exr", "--scale", 0.5) == 0
    assert signals.read(tmp_path / "h.exr").info.sizes == (24, 32)


def test_who_interrupts_the_measuring_keeps_the_run_and_is_told_how_to_measure_it(tmp_path, monkeypatch, capsys):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    path = write_picture(tmp_path / "p.png")
    with monkeypatch.context() as patch:
        patch.setattr(grid_evaluation, "sample_grid", interrupt)
        words = ("train", path, "--output-dir", tmp_path, "--timestamp", "t", "--max-num-iterations", 2, "--set")
        assert command(*words, *SMALL) == 1
    folder = tmp_path / "p/image/t"
    assert f"not measured; the run is whole: neurfield eval {folder}\n" in capsys.readouterr().out
    assert command("eval", folder) == 0


def test_16_bits_and_floats_come_back_as_they_were(tmp_path):
    wide = picture(24, 32).astype(np.uint16) * 257
    np.save(tmp_path / "w.npy", wide)
    folder = train(tmp_path / "w.npy", tmp_path / "a", 200)
    for suffix in (".png", ".npy"):
        assert command("render", folder, "--output", tmp_path / f"w-back{suffix}") == 0
        back = signals.read(tmp_path / f"w-back{suffix}")
        assert back.info.dtype == "uint16" and back.values.shape == wide.shape
        assert np.abs(back.values.astype(float) - wide).mean() < 0.03 * 65535
    bright = picture(24, 32).astype(np.float32) / 64  # up to 4
    np.save(tmp_path / "f.npy", bright)
    folder = train(tmp_path / "f.npy", tmp_path / "b", 200)
    assert command("render", folder, "--output", tmp_path / "f.exr") == 0
    back = signals.read(tmp_path / "f.exr")
    assert back.info.dtype == "float32" and np.abs(back.values - bright).mean() < 0.1


def test_alpha_is_learned_too(tmp_path):
    values = np.concatenate([picture(24, 32), picture(24, 32)[..., 1:2]], axis=2)
    Image.fromarray(values).save(tmp_path / "a.png")
    folder = train(tmp_path / "a.png", tmp_path / "out", 200)
    assert command("render", folder, "--output", tmp_path / "back.png") == 0
    back = np.asarray(Image.open(tmp_path / "back.png")).astype(float)
    assert back.shape == (24, 32, 4) and np.abs(back - values).mean() < 8


def test_a_shape_is_learned_measured_drawn_and_exported(few_places, tmp_path, capsys):
    trimesh = pytest.importorskip("trimesh")
    vertices, faces = icosphere(2)
    path = write_obj(tmp_path / "ball.obj", vertices * 2 + 7, faces)
    overrides = (*SMALL, "field.max_resolution=64")
    folder = train(path, tmp_path / "out", 500, overrides=overrides)
    capsys.readouterr()
    assert command("eval", folder) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["iou"] > 0.97 and result["chamfer_percent"] < 0.5
    assert command("render", folder, "--output", tmp_path / "ball.png", "--resolution", 64, 48) == 0
    seen = np.asarray(Image.open(tmp_path / "ball.png").convert("L"))
    assert seen.shape == (48, 64) and seen[0, 0] == 255 and 60 < seen[24, 32] < 255
    assert 0.25 < (seen < 250).mean() < 0.6  # a disc of nine tenths of 1 / 1.25 of the height
    turn = ("--orbit", 3, "--fps", 12, "--resolution", 16, 16)
    assert command("render", folder, "--output", tmp_path / "turn.mp4", *turn) == 0
    assert signals.read(tmp_path / "turn.mp4").info.fps == 12
    assert command("export", "mesh", folder, "--output", tmp_path / "b.ply", "--resolution", 48) == 0
    mesh = trimesh.load(tmp_path / "b.ply", process=False)
    assert mesh.is_watertight and mesh.bounds == pytest.approx(np.array([[5] * 3, [9] * 3]), abs=0.15)
    assert command("export", "pointcloud", folder, "--output", tmp_path / "p.ply", "--num-points", 500) == 0
    points = trimesh.load(tmp_path / "p.ply").vertices
    assert len(points) == 500 and np.linalg.norm(points - 7, axis=1) == pytest.approx(2, abs=0.15)


@pytest.mark.parametrize("kind", ["sdf", "occupancy"])
def test_what_comes_before_the_first_step_of_a_shape_is_seen(kind, tmp_path, monkeypatch, capsys):
    """Points of an open mesh take half a minute of the budget."""
    monkeypatch.setattr(_console, "_PLAIN_INTERVAL", 0.0)
    ball = write_obj(tmp_path / "ball.obj", *icosphere(1))
    train(ball, tmp_path / "runs", 1, "--method", kind, "--eval-split", "none")
    parts = [line.split() for line in capsys.readouterr().err.splitlines() if line.startswith("prepare")]
    shown = [int(part[1].removesuffix("%")) for part in parts]
    assert len(shown) > 1 and shown == sorted(shown) and shown[-1] == 100


@pytest.mark.parametrize("words", [("mesh", "--resolution", 8), ("pointcloud", "--num-points", 9)])
def test_a_shape_that_has_not_learned_anything_is_not_exported(words, tmp_path, error):
    """The zeros of such a field fill the cube: millions of triangles."""
    ball = write_obj(tmp_path / "ball.obj", *icosphere(1))
    folder = train_signal(ball, overrides=SMALL, max_num_iterations=0, output_dir=tmp_path).path.parents[1]
    what, *options = words
    assert command("export", what, folder, "--output", tmp_path / "b.ply", *options) == 2
    assert error().endswith(f"{folder}: step 0, nothing was learned that has a surface; train with a larger budget")
    assert not (tmp_path / "b.ply").exists()


def test_a_video_is_learned_and_drawn(tmp_path, capsys):
    path = write_video(tmp_path / "v.mp4", n=6, fps=12)
    folder = train(path, tmp_path / "out", 100)
    capsys.readouterr()
    assert command("eval", folder) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["per_frame"]) == 6 and result["psnr"] == pytest.approx(np.mean(result["per_frame"]))
    assert result["psnr"] > 22
    assert command("render", folder, "--output", tmp_path / "back.mp4") == 0
    back = signals.read(tmp_path / "back.mp4")
    assert back.info.sizes == (6, 16, 32) and back.info.fps == 12
    assert command("render", folder, "--output", tmp_path / "s.mp4", "--resolution", 16, 8, 12) == 0
    slow = signals.read(tmp_path / "s.mp4")
    assert slow.info.sizes == (12, 8, 16) and slow.info.fps == 24


def test_a_volume_is_learned_and_drawn(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    x, y, z = np.mgrid[0:12, 0:14, 0:16] / 16.0
    values = (200 * np.exp(-8 * ((x - 0.4) ** 2 + (y - 0.4) ** 2 + (z - 0.5) ** 2))).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2, 2, 1]))
    image.header.set_xyzt_units("micron")
    image.header["sform_code"] = 4  # that of the Montreal Neurological Institute
    nibabel.save(image, tmp_path / "v.nii.gz")
    folder = train(tmp_path / "v.nii.gz", tmp_path / "out", 100)
    assert command("render", folder, "--output", tmp_path / "b.nii.gz", "--scale", 2) == 0
    back = nibabel.load(tmp_path / "b.nii.gz")
    assert back.shape == (24, 28, 32) and np.asarray(back.dataobj).dtype == np.int16
    # a voxel's corner stays where it was
    corner = [-0.5, -0.5, -0.5, 1]
    assert back.affine @ corner == pytest.approx(np.diag([2.0, 2, 2, 1]) @ corner)
    assert back.header.get_zooms() == (1, 1, 1) and back.header.get_xyzt_units()[0] == "micron"
    assert back.header["sform_code"] == 4
    assert command("render", folder, "--output", tmp_path / "b.npy") == 0
    assert np.abs(np.load(tmp_path / "b.npy").astype(float) - values).mean() < 6


def test_a_resumed_run_goes_on_to_its_new_budget(tmp_path):
    path = write_picture(tmp_path / "p.png")
    folder = train(path, tmp_path / "out", 5, "--eval-split", "none")
    assert train(path, tmp_path / "out", 12, "--resume", overrides=()) == folder
    assert checkpoint.load_header(run.find_checkpoint(folder))["counters"]["step"] == 12


def test_a_run_from_cuda_goes_on_where_there_is_none(tmp_path, error, monkeypatch):
    path = write_picture(tmp_path / "p.png")
    folder = train(path, tmp_path / "out", 5, "--eval-split", "none", "--device", "cpu")
    (file,) = (folder / "checkpoints").iterdir()
    tensors, header = checkpoint.load(file)
    header["config"]["device"] = "cuda"
    checkpoint.save(file, tensors, header)
    monkeypatch.setattr(device, "why_not_cuda", lambda: "no driver")
    words = ("train", path, "--output-dir", tmp_path / "out", "--timestamp", "t", "--resume")
    assert command(*words) == 2
    assert error() == "neurfield: device cuda cannot be used: no driver; use --device cpu"
    assert command(*words, "--device", "cpu", "--max-num-iterations", 12) == 0
    continued = run.load(folder)
    assert continued.step == 12 and continued.config.device == "cpu"
    for used in (("train", path), ("eval", folder), ("render", folder, "--output", tmp_path / "x.png")):
        assert command(*used, "--device", "cuda") == 2
        assert error() == "neurfield: device cuda cannot be used: no driver; use --device cpu"
    assert not (tmp_path / "x.png").exists()


def test_two_halves_equal_a_whole(tmp_path):
    """Bit for bit, through a file, for the grid's native update and for autograd."""
    from neurfield.signal_run import SignalSubject
    from neurfield.training.grid_task import GridTask
    from neurfield.training.run_folder import RunFolder
    from neurfield.training.session import Session
    from neurfield.training.signal_method import SignalRunConfig
    from neurfield.training.trainer import Trainer

    signal = signals.read(write_picture(tmp_path / "p.png"))
    small_grid = "{otype: HashGrid, n_levels: 4, log2_hashmap_size: 10, base_resolution: 8}"
    for k, (name, overrides) in enumerate(
        (
            ("image", SMALL),
            ("image-siren", ("field.network.n_neurons=16", "training.n_samples=512")),
            ("image", (f"field.encoding={{otype: SAPE, resolution: [6, 6], nested: {small_grid}}}", SMALL[-1])),
        )
    ):
        config = SignalRunConfig(method=load_signal_method(name, "image", overrides), max_num_iterations=10)
        whole = Trainer(GridTask(signal, config), config)
        whole.train()
        half, folder = Trainer(GridTask(signal, config), config), RunFolder(tmp_path / str(k))
        session = Session(half, SignalSubject(signal.info), folder)
        for _ in range(4):
            half.train_step()
        session.save()
        rest = Trainer(GridTask(signal, config), config)
        Session(rest, SignalSubject(signal.info), folder, folder.checkpoints()[-1]).train()
        ours, theirs = whole.tensors(), rest.tensors()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("name", [name for name in signal_presets() if name.startswith("image")])
def test_every_preset_for_images_learns(name, tmp_path):
    """200 steps of a narrow network explain half of the picture's variance (3 dB). It measures no preset."""
    path = write_picture(tmp_path / "p.png")
    narrow = () if name == "image" else ("field.network.n_neurons=64", "training.n_samples=2048")
    folder = train(path, tmp_path / "out", 200, "--method", name, overrides=SMALL if name == "image" else narrow)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    truth = picture(48, 64) / 255
    constant = -10 * np.log10(((truth - truth.mean((0, 1))) ** 2).mean())
    assert lines[-1]["test/psnr"] > constant + 3


@pytest.mark.parametrize(
    ("parts", "name"),
    [
        ("network: {otype: MLP, n_neurons: 16, bias: true, modulation: {resolution: [4, 4]}}", "modulation"),
        (
            "encoding: {otype: Composite, nested: [{otype: Identity, n_dims_to_encode: 1}, {otype: Frequency}]}",
            "nested",
        ),
        ("encoding: {otype: SAPE, resolution: [4, 4], nested: {otype: Frequency, n_frequencies: 4}}", "nested"),
    ],
    ids=["CAM", "Composite", "SAPE"],
)
def test_blocks_within_blocks_work_from_files(parts, name, tmp_path):
    path = write_picture(tmp_path / "p.png")
    method = tmp_path / "m.yaml"
    method.write_text(f"name: mine\nkind: image\nfield: {{{parts}}}\ntraining: {{n_samples: 512}}\n")
    folder = train(path, tmp_path / "out", 3, "--method", str(method), overrides=())
    assert name in (folder / "config.yaml").read_text()
    assert command("eval", folder) == 0  # the checkpoint, too


def test_features_open_where_the_picture_asks_for_them(tmp_path):
    """SAPE in a training by the command: flat on the left, on the right a checkerboard, whose variance is 0.25."""
    values = np.full((64, 64), 128, np.uint8)
    values[:, 40:] = 255 * ((np.arange(64)[:, None] // 2 + np.arange(24) // 2) % 2)
    Image.fromarray(values).save(tmp_path / "p.png")
    nested = "nested: {otype: GaussianFourier, n_frequencies: 64, sigma: 8}"
    sets = (
        f"field.encoding={{otype: SAPE, resolution: [12, 12], n_blocks: 8, epsilon: 0.03, {nested}}}",
        "field.network={otype: MLP, n_neurons: 32, n_hidden_layers: 2}",
        "training.n_samples=2048",
    )
    folder = train(tmp_path / "p.png", tmp_path / "out", 300, overrides=sets)
    field = run.load(folder).field
    assert field.encoding.progress.is_finished
    picture = field.encoding.progress.picture()  # axes of positions: x comes first
    assert float(picture[9:].mean()) == 1 and float(picture[:5].mean()) < 0.6


def test_wrong_use_is_refused_in_one_line(tmp_path, error, capsys):
    path = write_picture(tmp_path / "p.png")
    folder = train(path, tmp_path / "out", 2)
    capsys.readouterr()
    for words, match in (
        (("train", path, "--downscale-factor", 2), "--downscale-factor is for scenes"),
        (("train", path, "--test-every", 8), "--test-every is for scenes"),
        (("train", path, "--method", "sdf"), "the method 'sdf' is for sdf, the data is image"),
        (
            ("train", path, "--method", "ngp"),
            "'ngp' is for scenes of posed photos, the data is image; leave --method out",
        ),
        (("train", path, "--method", "imge"), "did you mean 'image'"),
        (("train", path, "--seconds-per-eval", 1), "--seconds-per-eval is for scenes"),
        (("view", path, "--downscale-factor", 2), "--downscale-factor is for scenes"),
        (("data", "info", path, "--downscale-factor", 2), "--downscale-factor is for scenes"),
        (("data", "info", path, "--splits", "train"), "--splits is for scenes"),
        (("data", "info", path, "--output", tmp_path / "x.png"), "--output is for scenes"),
        (("train", path, "--output-dir", tmp_path / "out", "--resume", "--seed", 3), "the run has the seed 42"),
        (("render", folder, "--output", tmp_path / "x.bmp"), "unknown image format"),
        (("render", folder, "--output", tmp_path / "x.png", "--scale", 0), "--scale must be 0.001 ... 1000, got 0"),
        (("render", folder, "--output", tmp_path / "x.png", "--resolution", 5), "expected WIDTH HEIGHT"),
        (("render", folder, "--output", tmp_path / "x.png", "--resolution", 0, 5), "cannot draw 0 x 5 samples"),
        (("render", folder, "--output", tmp_path / "x.png", "--split", "test"), "--split is for scenes"),
        (
            ("render", folder, "--output", tmp_path / "x.png", "--downscale-factor", 2),
            "--downscale-factor is for scenes",
        ),
        (("render", folder, "--output", tmp_path / "x.png", "--outputs", "depth"), "--outputs is for scenes"),
        (("render", folder, "--output", tmp_path / "x.png", "--orbit", 3), "--orbit is for scenes and shapes"),
        (("render", folder, "--output", tmp_path / "x.png", "--fps", 3), "--fps is for scenes and shapes"),
        (("render", folder, "--output", path), "exists"),
        (("export", "mesh", folder, "--output", tmp_path / "x.ply"), "has no surface"),
        (("export", "pointcloud", folder, "--output", tmp_path / "x.ply"), "has no surface"),
        (("export", "pointcloud", folder, "--output", tmp_path / "x.ply", "--time", 0.5), "for scenes; leave them out"),
        (("export", "pointcloud", folder, "--output", tmp_path / "x.obj"), "written as .ply"),
    ):
        assert command(*words) == 2
        assert match in error()
    write_picture(path, 40, 64)
    assert command("eval", folder) == 2
    assert "not the data that this run was trained on" in error()
    path.unlink()
    assert command("eval", folder) == 2
    assert "p.png: the data of this run are no longer there; if they have been moved, give --data" in error()


def test_data_info_says_what_a_file_is(tmp_path, capsys):
    assert command("data", "info", write_picture(tmp_path / "p.png")) == 0
    assert capsys.readouterr().out == "image: p.png: 64 x 48, RGB, uint8 0 ... 255\n"


def test_a_folder_of_a_signal_is_a_run_in_python(tmp_path):
    import neurfield

    folder = train(write_picture(tmp_path / "p.png"), tmp_path / "out", 3)
    trained = neurfield.load(folder)
    assert trained.config.kind == "image" and trained.field(torch.rand(5, 2)).shape == (5, 3)
    assert trained.evaluate()["psnr"] > 0


def test_python_trains_without_files(tmp_path):
    import neurfield

    path = write_picture(tmp_path / "p.png")
    trained = neurfield.train_signal(path, overrides=SMALL, max_num_iterations=30)
    assert repr(trained) == "SignalRun(image, step 30)"
    assert trained.step == 30 and trained.evaluate()["psnr"] > 15 and list(tmp_path.iterdir()) == [path]
    trained.render(tmp_path / "back.png", SignalRender(resolution=[32, 16]))
    assert Image.open(tmp_path / "back.png").size == (32, 16)
    for scale in (0, -1, float("nan")):
        with pytest.raises(neurfield.UserError, match=r"--scale must be 0.001 ... 1000"):
            SignalRender(scale=scale)
    with pytest.raises(neurfield.UserError, match="not a signal of a known kind"):
        neurfield.train_signal(tmp_path)
    (tmp_path / "p.bmp").write_bytes(b"BM")
    with pytest.raises(
        neurfield.UserError, match=r"not a signal of a known kind .*; .* convert it, .*: magick .*p.png"
    ):
        neurfield.train_signal(tmp_path / "p.bmp")
    with pytest.raises(neurfield.UserError, match=r"expected a scene, .* got PosixPath; neurfield.train_signal takes"):
        neurfield.train(path)


def test_python_keeps_a_run_that_goes_on_and_exports(tmp_path):
    import neurfield

    trimesh = pytest.importorskip("trimesh")
    vertices, faces = icosphere(2)
    path = write_obj(tmp_path / "ball.v2.obj", vertices * 2 + 7, faces)
    overrides = (*SMALL, "field.max_resolution=64")
    trained = neurfield.train_signal(path, overrides=overrides, max_num_iterations=300, output_dir=tmp_path / "out")
    assert trained.path is not None and trained.path.is_relative_to(tmp_path / "out" / "ball" / "sdf")
    again, x = neurfield.load(trained.path.parents[1]), torch.rand(50, 3)
    assert again.step == 300 and torch.equal(again.field(x), trained.field(x))
    assert trained.export_mesh(tmp_path / "b.glb", resolution=32).watertight
    pytest.importorskip("fast_simplification")
    few = trained.export_mesh(tmp_path / "few.glb", resolution=32, max_triangles=300)
    assert few.watertight and 200 < few.n_faces <= 300
    assert trimesh.load(tmp_path / "b.glb").bounds == pytest.approx(np.array([[5] * 3, [9] * 3]), abs=0.3)
    with pytest.raises(neurfield.UserError, match="exists"):
        again.export_mesh(tmp_path / "b.glb")
    words = ("train", path, "--output-dir", tmp_path / "out", "--resume", "--eval-split", "none")
    assert command(*words, "--max-num-iterations", 301) == 0
    assert neurfield.load(trained.path.parents[1]).step == 301


@pytest.mark.parametrize("name", ["video-cam"])
def test_other_presets_train_and_become_small(name, tmp_path):
    path = write_video(tmp_path / "v.mp4", n=6, fps=12)
    narrow = (
        "field.network.n_neurons=32", "field.network.modulation.resolution=[4, 4, 3]", "training.n_samples=512",
    )  # fmt: skip
    folder = train(path, tmp_path / "out", 30, "--method", name, overrides=narrow)
    before = run.load(folder).evaluate()["psnr"]
    assert command("convert", folder, "--to", "int8", "--output", tmp_path / "s.safetensors") == 0
    assert abs(run.load(tmp_path / "s.safetensors").evaluate()["psnr"] - before) < 0.2
    assert command("render", tmp_path / "s.safetensors", "--output", tmp_path / "back.mp4") == 0


def test_an_unknown_method_lists_those_of_its_kind():
    with pytest.raises(UserError, match=r"unknown video method 'vid'.*\(valid: video-cam, video\)"):
        load_signal_method("vid", "video")
