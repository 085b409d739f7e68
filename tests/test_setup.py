# SPDX-License-Identifier: Apache-2.0
"""What setup.py looks for before it builds, and which compute capabilities it compiles for."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import setuptools

SETUP = Path(__file__).resolve().parents[1] / "setup.py"


@pytest.fixture
def setup_py(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """setup.py with an nvcc of its own, which compiles for 80 and 90, and no wishes in the environment."""
    monkeypatch.setattr(setuptools, "setup", lambda **_: None)
    for name in ("NEURFIELD_CUDA", "NEURFIELD_CUDA_ARCHS", "NEURFIELD_CUDA_REPORT"):
        monkeypatch.delenv(name, raising=False)
    spec = importlib.util.spec_from_file_location("neurfield_setup", SETUP)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "find_nvcc", lambda: "nvcc")
    monkeypatch.setattr(module, "known_archs", lambda nvcc: {75, 80, 90})
    return module


@pytest.mark.parametrize(
    ("visible", "chosen"), [(set(), "90"), ({90}, "90"), ({75, 80}, "80"), ({90, 80, 120}, "80;90")]
)
def test_it_builds_for_the_gpus_that_can_run_the_kernels(setup_py, monkeypatch, visible, chosen) -> None:
    monkeypatch.setattr(setup_py, "visible_archs", lambda: visible)
    assert {f"-DNF_CUDA_ARCHS={chosen}", "-DNF_CUDA_REPORT="} <= set(setup_py.cuda_options())


@pytest.mark.parametrize("visible", [{75}, {120}])
def test_without_such_a_gpu_it_builds_without_cuda_and_says_so(setup_py, monkeypatch, capsys, visible) -> None:
    monkeypatch.setattr(setup_py, "visible_archs", lambda: visible)
    assert setup_py.cuda_options() == ["-DNF_CUDA=OFF"]
    (line,) = capsys.readouterr().out.splitlines()
    assert line == (
        "neurfield is built without CUDA: the kernels need compute capability 80 or newer, this machine asks for "
        f"{min(visible)} and nvcc compiles for 75, 80, 90"
    )
    monkeypatch.setenv("NEURFIELD_CUDA", "1")
    with pytest.raises(SystemExit, match=r"^NEURFIELD_CUDA=1: the kernels need compute capability 80 or newer"):
        setup_py.cuda_options()


def test_architectures_that_are_asked_for_are_not_left_out(setup_py, monkeypatch) -> None:
    monkeypatch.setenv("NEURFIELD_CUDA_ARCHS", "80;90a")
    assert "-DNF_CUDA_ARCHS=80;90a" in setup_py.cuda_options()
    monkeypatch.setenv("NEURFIELD_CUDA_ARCHS", "90;75")
    with pytest.raises(SystemExit, match=r"^NEURFIELD_CUDA_ARCHS: expected 80 or newer, got 90;75$"):
        setup_py.cuda_options()


def test_a_report_is_kept_where_it_is_asked_for(setup_py, monkeypatch) -> None:
    monkeypatch.setenv("NEURFIELD_CUDA_REPORT", "build/report")
    assert f"-DNF_CUDA_REPORT={Path('build/report').resolve()}" in setup_py.cuda_options()


def test_cmake_is_found_beside_an_interpreter_that_is_not_on_the_path(setup_py, monkeypatch, tmp_path) -> None:
    cmake, on_path = tmp_path / "cmake", tmp_path / "path" / "cmake"
    on_path.parent.mkdir()
    for program in cmake, on_path:
        program.write_text("")
        program.chmod(0o755)
    monkeypatch.setattr(setup_py.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(on_path.parent))
    assert setup_py.find_cmake() == str(on_path)
    on_path.unlink()
    assert setup_py.find_cmake() == str(cmake)
    cmake.unlink()
    with pytest.raises(SystemExit, match="CMake was not found: pip install cmake"):
        setup_py.find_cmake()


def test_missing_headers_of_python_are_named_with_their_package(setup_py, monkeypatch, tmp_path) -> None:
    setup_py.check_headers()
    monkeypatch.setattr(setup_py.sysconfig, "get_path", lambda name: str(tmp_path))
    with pytest.raises(SystemExit, match=r"Python.h was not found: install .* python3\.\d+-dev"):
        setup_py.check_headers()
