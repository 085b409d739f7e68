# SPDX-License-Identifier: Apache-2.0
"""What the package imports, what pyproject.toml depends on and what doctor lists are one list."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import neurfield
from neurfield.cli.doctor import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow"}  # where its name is not the module's


def imported(folder: Path) -> Iterator[str]:
    """Top-level modules that the sources below a folder import, anywhere in them."""
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from (alias.name.split(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                yield str(node.module).split(".")[0]


def test_dependencies_are_what_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    optional = {"lpips", "nerfacc", "nibabel", "tensorboard", "tinycudann", "trimesh"}
    sources = (Path(neurfield.__file__).parent, ROOT / "viewer")
    modules = {name for folder in sources for name in imported(folder)} - {"neurfield", *sys.stdlib_module_names}
    assert {DISTRIBUTIONS.get(name, name) for name in modules} - optional == set(required)
    assert list(PACKAGES) == [*required, *sorted(optional)]
