# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu_check.sh in a fresh tree, with stand-ins for what its parts run."""

import os
import subprocess
import tarfile
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_check.sh"


def program(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A tree that has the script and empty packages, and an interpreter that fails in `benchmarks.run`."""
    copy = tmp_path / "tree" / "benchmarks" / SCRIPT.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(SCRIPT.read_bytes())
    copy.chmod(0o755)
    for package in ("neurfield", "viewer"):
        (tmp_path / "tree" / package).mkdir()
    program(tmp_path / "bin" / "python", 'sleep 0.1\necho "ran $*"\n[ "$2" != benchmarks.run ]')
    return copy.parents[1]


def run(tree: Path, *parts: str, **variables: str) -> subprocess.CompletedProcess:
    programs = tree.parent / "bin"
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": str(programs / "python"),
        "SAVE": str(tree.parent / "save"),
        "NEURFIELD_CUDA_ARCHS": "90",
        **variables,
    }
    script = tree / "benchmarks" / SCRIPT.name
    return subprocess.run([script, *parts], env=environment, capture_output=True, text=True, check=False)


def test_results_are_saved_after_each_part_whatever_came_of_it(tree: Path) -> None:
    done = run(tree, "tests", "kernels", "curve")
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "failed: kernels", done.stderr
    with tarfile.open(tree.parent / "save" / "gpu_check.tar.gz") as saved:
        assert {Path(name).name for name in saved.getnames()} == {"tests.log", "kernels.log", "curve.log"}
    assert not (tree.parent / "save" / "gpu_check.tmp").exists()


def test_a_first_part_alone_is_saved(tree: Path) -> None:
    assert run(tree, "tests").returncode == 0
    assert (tree.parent / "save" / "gpu_check.tar.gz").exists()


@pytest.mark.parametrize("part", ["tests", "commands"])
def test_what_imports_the_viewer_finds_it_though_nothing_is_installed(tree: Path, part: str) -> None:
    assert run(tree, part).returncode == 0
    assert (tree / "neurfield" / "viewer").resolve() == tree / "viewer"


@pytest.mark.parametrize("slow", ["cmake", "python"])
def test_everything_in_a_build_has_its_limit(tree: Path, slow: str) -> None:
    for name in ("cmake", "python"):
        program(tree.parent / "bin" / name, "sleep 60" if name == slow else "true")
    start = time.monotonic()
    done = run(tree, "build", "tests", LIMIT="2")  # of bash's seconds, whose first one may be short
    assert time.monotonic() - start < 30
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "failed: build", done.stderr
