# SPDX-License-Identifier: Apache-2.0
"""Builds an sdist and from it a wheel, in isolation and without torch, and runs the wheel in a clean environment.

Run as a script (`make test-packaging`): it is a check of the build, not of the code.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SMOKE = """
import sys
import neurfield._native as native
from importlib.resources import files
assert not any("torch" == name for name in sys.modules), "the native core must not need torch"
assert native.lib.num_threads() >= 1
assert (files("neurfield.scenes") / "methods").is_dir(), "method presets are missing from the wheel"
assert (files("neurfield.export") / "web" / "page.html").is_file(), "the web page is missing from the wheel"
assert (files("neurfield.viewer") / "server.py").is_file(), "the viewer is missing from the wheel"
print("wheel runs, instruction set", native.isa)
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        # what optimisation makes of the sources, the other checks see: without it they compile in half the time
        plain = {**os.environ, "CMAKE_BUILD_TYPE": "None"}
        build = [sys.executable, "-m", "build", "--outdir", folder, str(ROOT)]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL, env=plain)
        (sdist,) = Path(folder).glob("*.tar.gz")
        (wheel,) = Path(folder).glob("*.whl")
        print(f"built {sdist.name} ({sdist.stat().st_size >> 10} KiB) and {wheel.name}")
        environment = Path(folder) / "clean"
        venv.create(environment, with_pip=True)
        python = str(environment / "bin" / "python")
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)], check=True)
        subprocess.run([python, "-c", SMOKE], check=True, cwd=folder)
        # torch is far too large for this environment: the operators are checked with the one that runs this script
        linked = subprocess.run(
            ["ldd", *map(str, environment.rglob("_baseline*.so"))], check=True, capture_output=True, text=True
        )
        if "torch" in linked.stdout:
            raise SystemExit(f"the native module links torch:\n{linked.stdout}")


if __name__ == "__main__":
    main()
