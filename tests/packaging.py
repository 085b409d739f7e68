# SPDX-License-Identifier: Apache-2.0
"""Builds an sdist and from it a wheel, in isolation and without torch, and runs the wheel in a clean environment.

Run as a script by `make test-packaging`, which keeps nothing, and `make wheel`, which names the folder for both.
CMAKE_TOOLCHAIN_FILE is csrc/manylinux.cmake there; auditwheel refuses what needs a newer glibc.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

SMOKE = """
import sys
from array import array
import neurfield._native as native
from importlib.resources import files
assert not any("torch" == name for name in sys.modules), "the native core must not need torch"
assert native.lib.num_threads() >= 1
assert (files("neurfield.scenes") / "methods").is_dir(), "method presets are missing from the wheel"
assert (files("neurfield.export") / "web" / "page.html").is_file(), "the web page is missing from the wheel"
assert (files("neurfield.viewer") / "server.py").is_file(), "the viewer is missing from the wheel"
try:
    native.lib.trunc_exp_backward(array("f", [0]), array("f", [0, 0]), array("f", [0]))
    raise AssertionError("an error of the core came as nothing")
except ValueError as error:
    assert "must hold 1 values, got 2" in str(error)
print("wheel runs, instruction set", native.isa)
"""

ISAS = "from neurfield._native import supported_isas; print(*supported_isas())"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        command("-m", "build", "--outdir", folder, ROOT, stdout=subprocess.DEVNULL)
        (sdist,), (built,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
        platform_tag = f"manylinux_2_28_{platform.machine()}"
        command("-m", "auditwheel", "repair", "--plat", platform_tag, "--wheel-dir", folder / "portable", built)
        (wheel,) = (folder / "portable").glob("*.whl")
        for path in sdist, wheel:
            print(f"built {path.name}, {path.stat().st_size >> 10} KiB")
        check(wheel, folder)
        for path in (sdist, wheel) if len(sys.argv) > 1 else ():
            print(shutil.copy2(path, sys.argv[1]))


def check(wheel: Path, folder: Path) -> None:
    """Installs a wheel in a new environment within a folder and runs every instruction set of this machine.

    PyTorch is far too large for that environment: what needs it is left to the tests.
    """
    environment = folder / "clean"
    venv.create(environment, with_pip=True)
    python = environment / "bin" / "python"
    command("-m", "pip", "install", "--quiet", "--no-deps", wheel, python=python)
    isas = command("-c", ISAS, python=python, cwd=folder, stdout=subprocess.PIPE).stdout.split()
    for isa in isas:
        command("-c", SMOKE, python=python, cwd=folder, env=os.environ | {"NEURFIELD_ISA": isa})
    linked = subprocess.run(
        ["ldd", *environment.rglob("_baseline*.so")], check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    if "torch" in linked:
        raise SystemExit(f"the native module links torch:\n{linked}")


def command(
    *words: str | Path, python: str | Path = sys.executable, **options: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run([python, *words], check=True, text=True, **options)


if __name__ == "__main__":
    main()
