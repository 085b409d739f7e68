# SPDX-License-Identifier: Apache-2.0
"""Faults of the machine in any command: one line, exit code 1, nothing half-written."""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from neurfield.cli import export
from neurfield.cli.main import main
from neurfield.errors import MachineError, is_out_of_memory
from neurfield.files import append, save_array
from neurfield.rendering.writers import DEPTH_WRITERS
from tests.export.test_mesh import ball, fake_run
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL

TOO_MUCH = 1 << 58  # bytes, beyond what any machine can address


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_synthetic(ball_scene(4, 1, 16), tmp_path_factory.mktemp("data") / "ball")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("outputs")
    words = ["train", str(data), "--output-dir", str(output), "--max-num-iterations", "2", "--timestamp", "t"]
    assert main([*words, "--eval-split", "none", "--set", *SMALL]) == 0
    return output / "ball/ngp-fast/t"


def torch_fails(*args: object, **kwargs: object) -> None:
    torch.empty(TOO_MUCH, dtype=torch.uint8)


def numpy_fails(*args: object, **kwargs: object) -> None:
    np.empty(TOO_MUCH, dtype=np.uint8)


def ends_in_one_line(capsys: pytest.CaptureFixture, words: list[str]) -> str:
    assert main(words) == 1
    *progress, error = capsys.readouterr().err.splitlines()
    assert error.startswith("neurfield: ") and all(re.search(r" \d+%", line) for line in progress), progress
    return error


@pytest.mark.parametrize("fails", [torch_fails, numpy_fails])
@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("neurfield.cli.train.decode", "train {data} --output-dir {out}"),
        ("neurfield.training.trainer.Trainer.train_step", "train {data} --output-dir {out} --max-num-iterations 1"),
        ("neurfield.training.checkpoint.save", "train {data} --output-dir {out} --max-num-iterations 1"),
        ("neurfield.run.load_field", "eval {run}"),
        ("neurfield.rendering.renderer.Renderer.render", "eval {run} --output {out}/m.json"),
        ("neurfield.rendering.renderer.Renderer.render", "render {run} --output {out}/views"),
        ("neurfield.rendering.writers.FolderWriter.add", "render {run} --output {out}/views"),
        ("neurfield.rendering.video.VideoWriter.add", "render {run} --output {out}/orbit.mp4 --orbit 2"),
        ("neurfield.export.mesh.density_mesh", "export mesh {run} --output {out}/mesh.glb"),
        ("neurfield.data.camera_picture.draw", "data info {data} --output {out}/c.png"),
        ("neurfield.data.procedural.make._fill", "data make lighthouse --output {out}/lighthouse"),
    ],
)
def test_memory_that_runs_out_is_one_line(place, words, fails, data, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(place, fails)
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    filled = [word.format(data=data, run=run, out=tmp_path) for word in words.split()]
    assert "out of memory; use a smaller" in ends_in_one_line(capsys, filled)
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")]
    assert not list(tmp_path.glob("ball/ngp-fast/*"))


_LIMITED = """
import resource, sys, torch
from pathlib import Path
from neurfield.cli.main import main
import neurfield.cli.train

in_use = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (in_use + (1 << 29), -1))
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and limits on address space")
@pytest.mark.parametrize("setting", ["field.encoding.log2_hashmap_size=23", "training.n_samples=4194304"])
def test_a_method_that_does_not_fit_into_memory(setting, data, tmp_path):
    """Tables of 1 GiB, and workspaces of native code, with half a GiB to have."""
    words = ["train", str(data), "--output-dir", str(tmp_path), "--max-num-iterations", "2", "--method", "ngp"]
    command = [sys.executable, "-c", _LIMITED, *words, "--set", setting]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stdout + done.stderr
    assert "out of memory" in done.stderr
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@contextlib.contextmanager
def disk_of(size: int):
    """No file can grow beyond `size` bytes: writing more fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "words",
    [
        "train {data} --output-dir {out} --max-num-iterations 1 --set training.n_samples=256",
        "eval {run} --output {out}/m.json",
        "render {run} --output {out}/views --outputs rgb depth",
        "render {run} --output {out}/depth --outputs depth --depth-format exr",
        "render {run} --output {out}/orbit.mp4 --orbit 2",
        "export mesh {run} --output {out}/mesh.glb --resolution 16",
        "data info {data} --output {out}/c.png",
        "data make lighthouse --output {out}/lighthouse --views 1 --resolution 8 --mesh-resolution 16",
    ],
)
def test_a_full_disk_is_one_line(words, data, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    with disk_of(200):
        error = ends_in_one_line(capsys, [word.format(data=data, run=run, out=tmp_path) for word in words.split()])
    assert "cannot write" in error and str(tmp_path) in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or path.name.startswith(".")]
    assert not list(tmp_path.glob("ball/ngp-fast/*"))


@pytest.mark.parametrize("depth", [np.zeros((16, 16), np.float32), np.eye(16, dtype=np.float32)], ids=["one", "many"])
@pytest.mark.parametrize("depth_format", DEPTH_WRITERS)
def test_a_depth_that_does_not_fit_is_noticed(depth_format, depth, tmp_path):
    if depth_format == "exr":
        pytest.importorskip("OpenEXR")
    path = tmp_path / f"d.{depth_format}"
    DEPTH_WRITERS[depth_format](path, depth, "z")
    size = path.stat().st_size
    path.unlink()
    with disk_of(size - 1), pytest.raises((OSError, MachineError)):
        DEPTH_WRITERS[depth_format](path, depth, "z")


def test_an_array_that_does_not_fit_is_noticed(tmp_path):
    with disk_of(300), pytest.raises(OSError, match="File too large"):  # numpy.save writes 300 of 328 bytes, unsaid
        save_array(tmp_path / "a.npy", np.zeros(50, np.float32))


def test_a_log_line_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "metrics.jsonl"
    append(path, b"a" * 150 + b"\n")
    with disk_of(200), pytest.raises(MachineError, match=r"cannot write \(file too large\); nothing was changed"):
        append(path, b"b" * 100)
    assert path.read_bytes() == b"a" * 150 + b"\n"


def test_other_errors_are_no_lack_of_memory():
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(OSError(28, "No space left on device"))
    assert is_out_of_memory(OSError(12, "Cannot allocate memory"))
    with pytest.raises(RuntimeError) as caught:
        torch_fails()
    assert is_out_of_memory(caught.value)


TERMINATED = """
import os, signal, sys
from pathlib import Path
from neurfield.cli import main, render
from neurfield.files import atomic_folder

kind, before = signal.Signals[sys.argv[2]], signal.getsignal(signal.Signals[sys.argv[2]])

def run(options):
    with atomic_folder(options.output) as folder:
        (folder / "half.png").write_text("half")
        try:
            os.kill(os.getpid(), kind)
        except KeyboardInterrupt:
            if kind is signal.SIGHUP:
                os.kill(os.getpid(), kind)  # from the terminal, after the shell; it breaks nothing off
            raise
    return 0

render.run = run
code = main.main(["render", "run", "--output", sys.argv[1]])
assert signal.getsignal(kind) is before
sys.exit(code)
"""


@pytest.mark.parametrize("kind", ["TERM", "HUP"])
def test_a_signal_leaves_nothing_half_written(kind, tmp_path, heard):
    line = [sys.executable, "-c", TERMINATED, str(tmp_path / "out"), f"SIG{kind}"]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "neurfield: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["TERM", "HUP"])
def test_what_the_starter_ignores_ends_no_command(kind, tmp_path):
    words = [sys.executable, "-c", TERMINATED, str(tmp_path / "out"), f"SIG{kind}"]
    line = ["sh", "-c", f"trap '' {kind}; exec \"$@\"", "sh", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (tmp_path / "out" / "half.png").exists()
