# SPDX-License-Identifier: Apache-2.0
"""Builds the native core with CMake. Everything else is in pyproject.toml.

NEURFIELD_CUDA=1 demands the CUDA kernels, 0 leaves them out; by default they are built where nvcc is found.
NEURFIELD_CUDA_ARCHS names the compute capabilities, separated by `;` ("80;90"); by default those of the GPUs of this
machine that are 80 or newer and known to nvcc, and 90 without any GPU. Where none is left, the kernels are left out.
NEURFIELD_CUDA_REPORT names a folder that keeps what ptxas says of the kernels, for csrc/cuda/check_build.sh.
"""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
OLDEST_ARCH = 80  # its matrix units multiply half precision in the shapes that the kernels use


def find_nvcc() -> str | None:
    """nvcc on the PATH, in CUDA_HOME or where NVIDIA's packages put it."""
    homes = [os.environ.get("CUDA_HOME"), "/usr/local/cuda"]
    return shutil.which("nvcc") or next((n for home in homes if home and (n := shutil.which(f"{home}/bin/nvcc"))), None)


def find_cmake() -> str:
    """The one on the PATH, where pip puts what it builds with, or one beside an interpreter that is not on the PATH."""
    beside = str(Path(sys.executable).parent)
    return (
        shutil.which("cmake")
        or shutil.which("cmake", path=beside)
        or sys.exit("CMake was not found: pip install cmake")
    )


def check_headers() -> None:
    header = Path(sysconfig.get_path("include")) / "Python.h"
    if not header.exists():
        package = f"python{sys.version_info.major}.{sys.version_info.minor}-dev"
        sys.exit(f"{header} was not found: install the headers of this Python (Debian, Ubuntu: {package})")


def visible_archs() -> set[int]:
    """Compute capabilities of the GPUs of this machine, 90 for 9.0."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {int(line.replace(".", "")) for line in found.splitlines() if line.strip()}


def known_archs(nvcc: str) -> set[int]:
    """Compute capabilities that nvcc compiles for; empty where it is too old to say."""
    try:
        found = subprocess.run([nvcc, "--list-gpu-arch"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return set()
    return {int(arch) for arch in re.findall(r"^compute_(\d+)$", found, re.MULTILINE)}


def chosen_archs(nvcc: str) -> tuple[str, str]:
    """What to compile for, `80;90`, or nothing and the reason."""
    if asked := os.environ.get("NEURFIELD_CUDA_ARCHS"):
        if any(name.isdigit() and int(name) < OLDEST_ARCH for name in asked.split(";")):
            sys.exit(f"NEURFIELD_CUDA_ARCHS: expected {OLDEST_ARCH} or newer, got {asked}")
        return asked, ""
    wanted, known = visible_archs() or {90}, known_archs(nvcc)
    archs = sorted(arch for arch in wanted & known if arch >= OLDEST_ARCH)
    reason = "" if archs else (
        f"the kernels need compute capability {OLDEST_ARCH} or newer, this machine asks for {names(wanted)} and "
        f"{nvcc} compiles for {names(known) or 'unknown ones'}"
    )  # fmt: skip
    return ";".join(map(str, archs)), reason


def names(archs: set[int]) -> str:
    return ", ".join(map(str, sorted(archs)))


def cuda_options() -> list[str]:
    """What CMake is told about CUDA."""
    wanted = os.environ.get("NEURFIELD_CUDA", "")
    if wanted not in ("", "0", "1"):
        sys.exit(f"NEURFIELD_CUDA: expected 1, 0 or nothing, got {wanted!r}")
    nvcc = None if wanted == "0" else find_nvcc()
    if wanted == "1" and nvcc is None:
        sys.exit("NEURFIELD_CUDA=1: nvcc was not found on the PATH, in CUDA_HOME or in /usr/local/cuda")
    if nvcc is None:
        return ["-DNF_CUDA=OFF"]
    archs, reason = chosen_archs(nvcc)
    if not archs:
        if wanted == "1":
            sys.exit(f"NEURFIELD_CUDA=1: {reason}")
        print(f"neurfield is built without CUDA: {reason}")
        return ["-DNF_CUDA=OFF"]
    report = os.environ.get("NEURFIELD_CUDA_REPORT", "")
    return [
        "-DNF_CUDA=ON", f"-DCMAKE_CUDA_COMPILER={nvcc}", f"-DNF_CUDA_ARCHS={archs}",
        f"-DNF_CUDA_REPORT={report and Path(report).resolve()}",
    ]  # fmt: skip


class CMakeBuild(build_ext):
    """Runs CMake once and puts the modules of all instruction sets, and of CUDA, into neurfield/_native."""

    def run(self) -> None:
        check_headers()
        package = ROOT / "neurfield" if self.inplace else Path(self.build_lib).resolve() / "neurfield"
        output = package / "_native"
        output.mkdir(parents=True, exist_ok=True)
        build = Path(self.build_temp).resolve() / "native"
        build.mkdir(parents=True, exist_ok=True)
        cuda = cuda_options()
        if "-DNF_CUDA=OFF" in cuda:  # an older build must not stay beside new kernels
            for stale in output.glob("_cuda.*"):
                stale.unlink()
        configure = [
            find_cmake(), "-S", str(ROOT / "csrc"), "-B", str(build),
            f"-DPython_EXECUTABLE={sys.executable}", f"-DNF_OUTPUT_DIR={output}", *cuda,
        ]  # fmt: skip
        try:
            subprocess.run(configure, check=True)
            subprocess.run([configure[0], "--build", str(build), "--parallel", str(os.cpu_count() or 1)], check=True)
        except subprocess.CalledProcessError as error:
            hint = "; NEURFIELD_CUDA=0 builds without CUDA" if "-DNF_CUDA=ON" in cuda else ""
            sys.exit(f"the native core was not built: {' '.join(error.cmd[:2])} failed, see above{hint}")


setup(
    packages=[*find_packages(include=["neurfield", "neurfield.*"]), "neurfield.scenes", "neurfield.viewer"],
    package_dir={"neurfield.scenes": "scenes", "neurfield.viewer": "viewer"},
    package_data={
        "neurfield.scenes": ["*.yaml", "methods/*.yaml", "signals/*.yaml"],
        "neurfield.export": ["web/*"],
    },
    ext_modules=[Extension("neurfield._native._baseline", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
