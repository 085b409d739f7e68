# SPDX-License-Identifier: Apache-2.0
"""Runs as small files, in fp16 and in 8 bits: used like any run; broken and hostile ones are refused."""

import json
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import neurfield
from neurfield import quantization
from neurfield.cli.main import main
from neurfield.convert.request import Request
from neurfield.convert.small import to_int8
from neurfield.data import signals
from neurfield.errors import UserError
from neurfield.run import load
from neurfield.training import checkpoint, packed
from tests.scenes import ball_scene, write_synthetic
from tests.signals.files import write_picture
from tests.training.test_trainer import SMALL

CAM = (
    "field.encoding.n_frequencies=32", "field.network.n_neurons=32", "field.network.modulation.resolution=[6, 6]",
    "training.n_samples=1024",
)  # fmt: skip
HASH = ("field.encoding.n_levels=6", "field.encoding.log2_hashmap_size=12", "training.n_samples=2048")
METHODS = {"image-cam": CAM, "image": HASH, "image-sape": (*CAM[1:2], "training.n_samples=1024")}


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    return write_picture(tmp_path_factory.mktemp("data") / "p.png")


def trained(picture, folder, method: str, steps: int = 40):
    words = ["train", str(picture), "--output-dir", str(folder), "--method", method, "--timestamp", "t"]
    assert main([*words, "--max-num-iterations", str(steps), "--set", *METHODS[method]]) == 0
    return folder / "p" / method / "t"


def convert(run, to: str, path) -> int:
    return main(["convert", str(run), "--to", to, "--output", str(path)])


@pytest.mark.parametrize("method", METHODS)
def test_a_signal_in_8_bits_is_a_run(method, picture, tmp_path, capsys):
    folder = trained(picture, tmp_path / "out", method)
    path = tmp_path / "small.safetensors"
    assert convert(folder, "int8", path) == 0
    whole, small = load(folder), load(path)
    n_params, n_bytes = whole.field.n_params, path.stat().st_size
    assert n_bytes < 1.05 * n_params + 6000  # a header of some kilobytes, biases in two bytes
    # every value is within half a step of its group, of which the largest has 127, or rounded to fp16
    for (name, mine), (_, theirs) in zip(small.field.named_parameters(), whole.field.named_parameters(), strict=True):
        assert float((mine - theirs).detach().abs().max()) <= 0.51 / 127 * float(theirs.detach().abs().max()), name
    capsys.readouterr()
    assert main(["eval", str(path)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["bits_per_sample"] == pytest.approx(8 * n_bytes / (48 * 64))
    assert "size of the file, int8" in result["protocol"]["bits_per_sample"]
    assert abs(result["psnr"] - whole.evaluate()["psnr"]) < 1
    assert main(["render", str(path), "--output", str(tmp_path / "b.png")]) == 0
    assert signals.read(tmp_path / "b.png").info.sizes == (48, 64)
    again = tmp_path / "again.safetensors"
    assert convert(path, "int8", again) == 0  # what has been rounded is on the steps already
    x = torch.rand(100, 2)
    with torch.no_grad():
        torch.testing.assert_close(load(again).field(x), small.field(x), atol=1e-3, rtol=0)


def test_training_with_8_bits_has_seen_what_is_stored(picture, tmp_path):
    """Only biases are rounded, to fp16: the outputs are sigmoids, slope 1/4 of sums of 32 products."""
    folder = trained(picture, tmp_path / "out", "image-cam")
    assert convert(folder, "int8", tmp_path / "a.safetensors") == 0
    x = torch.rand(500, 2)
    with torch.no_grad():
        torch.testing.assert_close(load(tmp_path / "a.safetensors").field(x), load(folder).field(x), atol=2e-3, rtol=0)


def test_a_signal_in_fp16(picture, tmp_path, capsys):
    folder = trained(picture, tmp_path / "out", "image")
    path = tmp_path / "half.safetensors"
    assert convert(folder, "half", path) == 0
    said = capsys.readouterr().out
    assert "parameters in fp16" in said and said.count(str(path)) == 1
    small = load(path)
    assert small.stored_as == "fp16" and small.evaluate()["bits_per_sample"] > 16 * small.field.n_params / (48 * 64)
    assert abs(small.evaluate()["psnr"] - load(folder).evaluate()["psnr"]) < 0.05


def test_a_radiance_field_in_8_bits(tmp_path):
    data = write_synthetic(ball_scene(), tmp_path / "data")
    run = neurfield.train(
        neurfield.load_scene(data), "ngp-fast", max_num_iterations=80, overrides=SMALL, output_dir=tmp_path / "out"
    )
    path = tmp_path / "small.safetensors"
    assert convert(run.path, "int8", path) == 0
    small = load(path)
    assert path.stat().st_size < 1.05 * sum(p.numel() for p in run.field.parameters()) + 40000  # cameras, occupancy
    assert torch.equal(small.grid.bitfield, run.grid.bitfield) and torch.equal(small.grid.coarse, run.grid.coarse)
    assert abs(small.evaluate()["psnr"] - run.evaluate()["psnr"]) < 0.5
    assert main(["render", str(path), "--output", str(tmp_path / "views"), "--split", "test"]) == 0


def test_wrong_use_is_refused_in_one_line(picture, tmp_path, capsys):
    folder = trained(picture, tmp_path / "out", "image", 2)
    path = tmp_path / "s.safetensors"
    for words, message in (
        (["--to", "int8", "--output", str(tmp_path / "x.bin")], "expected the name of a .safetensors file"),
        (["--to", "int8", "--output", str(path), "--set", "field.longest=3"], "made without training: leave --set out"),
        (["--to", "half", "--output", str(path), "--max-seconds", "0"], "without training: leave --max-seconds out"),
        (["--to", "int8", "--output", str(path), "--seed", "1", "--data", "x"], "training: leave --data, --seed out"),
        (["--to", "kilonerf", "--output", str(tmp_path / "k")], "--to kilonerf needs a radiance field"),
        (["--to", "int9", "--output", str(path)], "did you mean 'int8'"),
    ):
        assert main(["convert", str(folder), *words]) == 2
        assert message in capsys.readouterr().err
    whole = load(folder)
    bare = SimpleNamespace(field=torch.nn.Linear(2, 3), info=whole.info, step=0, config=whole.config, path=None)
    with pytest.raises(UserError, match="and Linear has none; use --to half"):
        to_int8(bare, Request(path))


def test_only_a_small_file_is_replaced(picture, tmp_path, capsys):
    """No checkpoint of another run, and nothing of another program."""
    folder, other = (load(trained(picture, tmp_path / name, "image", 2)).path for name in ("out", "other"))
    small, foreign = tmp_path / "s.safetensors", tmp_path / "foreign.safetensors"
    foreign.write_bytes(b"not ours")
    for path in (other, foreign):
        before = path.read_bytes()
        assert main(["convert", str(folder), "--to", "half", "--output", str(path), "--overwrite"]) == 2
        assert "no small file that convert or save has made" in capsys.readouterr().err
        assert path.read_bytes() == before
    for to in ("half", "int8"):
        assert main(["convert", str(folder), "--to", to, "--output", str(small), "--overwrite"]) == 0
    assert load(small).stored_as == "int8"


def test_a_nerf_in_8_bits_is_a_run(tmp_path):
    nerf = ("field.width=16", "field.n_layers=2", "training.n_samples=512")
    made = neurfield.train(ball_scene(), "nerf", overrides=nerf, max_num_iterations=1, output_dir=tmp_path / "nerf")
    small = to_int8(made, Request(tmp_path / "s.safetensors"))
    x, directions = torch.rand(64, 3), torch.nn.functional.normalize(torch.rand(64, 3), dim=1)
    for whole, rounded in zip(made.field(x, directions), small.field(x, directions), strict=True):
        assert not torch.equal(whole, rounded) and torch.allclose(whole, rounded, rtol=0.05)


def changed(path, change) -> None:
    tensors, header = checkpoint.load(path)
    header.pop("schema_version")
    change(tensors)
    checkpoint.save(path, tensors, header)


def test_files_that_lie_are_refused(picture, tmp_path):
    folder = trained(picture, tmp_path / "out", "image", 2)
    path = tmp_path / "s.safetensors"
    name = f"{packed.PREFIX}encoding.params.codes"

    def deflated(n_bytes: int) -> torch.Tensor:
        return torch.frombuffer(bytearray(zlib.compress(bytes(n_bytes))), dtype=torch.uint8)

    def deflated_nan(tensors) -> torch.Tensor:
        steps = zlib.decompress(tensors[name.replace("codes", "step")].numpy().data)
        nan = np.full(len(steps) // 4, np.nan, dtype=np.float32)
        return torch.frombuffer(bytearray(zlib.compress(nan.tobytes())), dtype=torch.uint8)

    n = load(folder).field.encoding.params.numel()
    for change, message in (
        (lambda t: t.update({name: deflated(1 << 28)}), f"expected {n} bytes, got more"),  # 256 kB that would be 256 MB
        (lambda t: t.update({name: deflated(n - 1)}), f"expected {n} bytes, got {n - 1}"),
        (lambda t: t.update({name: t[name][:-9]}), f"expected {n} bytes"),
        (lambda t: t.update({name: torch.zeros(50, dtype=torch.uint8)}), "packed field: Error -3"),
        (lambda t: t.pop(name), "packed field: expected"),
        (lambda t: t.update({f"{packed.PREFIX}more": deflated(4)}), "packed field: expected"),
        (lambda t: t.update({"field.encoding.params": torch.zeros(n)}), r"unknown tensors \['field.encoding.params'\]"),
        (lambda t: t.update({name.replace("codes", "step"): deflated_nan(t)}), "not finite: encoding.params; use"),
    ):
        path.unlink(missing_ok=True)
        assert convert(folder, "int8", path) == 0
        changed(path, change)
        with pytest.raises(UserError, match=message):
            load(path)


def test_a_scene_in_8_bits_has_nothing_else(tmp_path):
    run = neurfield.train(ball_scene(), "ngp-fast", max_num_iterations=1, overrides=SMALL, output_dir=tmp_path / "out")
    path = tmp_path / "small.safetensors"
    assert convert(run.path, "int8", path) == 0
    changed(path, lambda t: t.update({"field.extra": torch.zeros(1)}))
    with pytest.raises(UserError, match=r"unknown tensors \['field.extra'\]"):
        load(path)


def test_parameters_that_are_not_finite_are_refused(picture, tmp_path):
    """Of the files of trainings, too."""
    scene = neurfield.train(ball_scene(), "ngp-fast", max_num_iterations=1, overrides=SMALL, output_dir=tmp_path / "s")
    for run in (scene.path, load(trained(picture, tmp_path / "out", "image", 1)).path):
        changed(run, lambda t: t["field.encoding.params"].view(-1)[:1].fill_(float("inf")))
        with pytest.raises(UserError, match=r"not finite: encoding\.params; use another checkpoint"):
            load(run)


def test_levels_have_steps_of_their_own():
    """A level of small values keeps them beside one of large ones."""
    from neurfield import encodings

    grid = encodings.create(2, {"otype": "HashGrid", "n_levels": 2, "log2_hashmap_size": 8, "base_resolution": 4})
    sizes = grid._level_sizes()
    with torch.no_grad():
        grid.params[: sizes[0]] *= 1e4
    other = encodings.create(2, {"otype": "HashGrid", "n_levels": 2, "log2_hashmap_size": 8, "base_resolution": 4})
    quantization.unpack(other, quantization.pack(grid))
    for mine, theirs in zip(other.params.split(sizes), grid.params.split(sizes), strict=True):
        assert float((mine - theirs).detach().abs().max()) <= 0.51 / 127 * float(theirs.detach().abs().max())
