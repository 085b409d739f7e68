# SPDX-License-Identifier: Apache-2.0
"""Builds the native core with CMake. Everything else is in pyproject.toml."""

import os
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent


class CMakeBuild(build_ext):
    """Runs CMake once and puts the modules of all instruction sets into neurfield/_native."""

    def run(self) -> None:
        package = ROOT / "neurfield" if self.inplace else Path(self.build_lib).resolve() / "neurfield"
        output = package / "_native"
        output.mkdir(parents=True, exist_ok=True)
        build = Path(self.build_temp).resolve() / "native"
        build.mkdir(parents=True, exist_ok=True)
        configure = [
            "cmake", "-S", str(ROOT / "csrc"), "-B", str(build),
            f"-DPython_EXECUTABLE={sys.executable}", f"-DNF_OUTPUT_DIR={output}",
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build), "--parallel", str(os.cpu_count() or 1)], check=True)


setup(
    packages=[*find_packages(include=["neurfield", "neurfield.*"]), "neurfield.scenes", "neurfield.viewer"],
    package_dir={"neurfield.scenes": "scenes", "neurfield.viewer": "viewer"},
    package_data={"neurfield.scenes": ["*.yaml", "methods/*.yaml"]},
    ext_modules=[Extension("neurfield._native._baseline", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
