# SPDX-License-Identifier: Apache-2.0
"""Imports point downwards, and what they need, pyproject.toml depends on and doctor lists are one list."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import neurfield
from neurfield.cli.doctor import PACKAGES

ROOT = Path(__file__).resolve().parents[1]
SOURCES = (Path(neurfield.__file__).parent, ROOT / "viewer")
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "PIL": "pillow",
    "pi_heif": "pi-heif",
    "fast_simplification": "fast-simplification",
}  # where its name is not the module's


def run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Everything in a syntax tree but what only type checkers read."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from run_time(node)


def imports() -> Iterator[tuple[str, str]]:
    """Each module or package of ours, by its first name, and what its sources import, not for types alone."""
    for folder in SOURCES:
        for path in folder.rglob("*.py"):
            ours = path.relative_to(folder).parts[0].removesuffix(".py") if folder.name == "neurfield" else folder.name
            for node in run_time(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    yield from ((ours, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module == "neurfield":
                    yield from ((ours, f"neurfield.{alias.name}") for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    yield ours, str(node.module)


def layers() -> list[str]:
    """What the table of docs/architecture.md has of Python, lowest first."""
    table = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| (`(?:neurfield|viewer)[^|]*) \|", table, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`([\w./]+)`", row)]
    return [re.sub(r"^neurfield[./]|\.py$", "", name) for name in names]


def test_imports_point_downwards():
    place = {name: i for i, name in enumerate(layers())}
    upwards = set()
    for ours, name in imports():
        package, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if package != "neurfield" or other in ("", "__version__", ours) or ours in ("__init__", "__main__"):
            continue
        if ours not in place or place.get(other, len(place)) > place[ours]:
            upwards.add(f"{ours} imports {other}")
    assert not upwards


def test_dependencies_are_what_is_imported():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.match(r"[\w-]+", line)[0] for line in project["dependencies"]]
    optional = {
        "fast-simplification",
        "lpips",
        "nerfacc",
        "nibabel",
        "pi-heif",
        "pycolmap",
        "tensorboard",
        "tinycudann",
        "trimesh",
        "xatlas",
    }
    modules = {name.split(".")[0] for _, name in imports()} - {"neurfield", *sys.stdlib_module_names}
    assert {DISTRIBUTIONS.get(name, name) for name in modules} - optional == set(required)
    assert list(PACKAGES) == [*required, *sorted(optional)]
