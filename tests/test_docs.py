# SPDX-License-Identifier: Apache-2.0
"""Pages name every entry of the tables they describe, their links lead somewhere, and their Python runs."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from neurfield import tcnn, tiny_cuda_nn
from neurfield.geometry import WRITERS
from neurfield.metrics import METRICS
from neurfield.rendering.outputs import DEPTH_KINDS
from neurfield.rendering.renderer import OUTPUTS
from neurfield.rendering.video import SUFFIXES
from neurfield.rendering.writers import DEPTH_WRITERS
from neurfield.signal_kinds import KINDS
from neurfield.training.method import presets, signal_presets

ROOT = Path(__file__).resolve().parents[1]
# of what is not there: a scene, a photo, a run
NEED_FILES = ("README.md", "data.md", "own_code.md", "signals.md", "viewer.md")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md"))]
TABLES = {
    "interop.md": (tiny_cuda_nn.ENCODINGS, tcnn.__all__),
    "rendering.md": (OUTPUTS, DEPTH_KINDS, DEPTH_WRITERS, SUFFIXES, WRITERS),
    "signals.md": (signal_presets(), KINDS),
    "training.md": (presets(), [name.upper() for name in METRICS]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_described_whole(name: str) -> None:
    text = (ROOT / "docs" / name).read_text()
    entries: Iterable[str] = [entry for table in TABLES[name] for entry in table]
    assert [entry for entry in entries if not re.search(rf"(?<![\w.]){re.escape(entry)}\b", text)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_writes_no_file_of_a_command_before_it(page: Path) -> None:
    written = re.findall(r"--output (\S+)", page.read_text())  # nothing is overwritten without being told to
    assert [name for name in re.findall(r'"(\w+\.\w+)"', "".join(snippets(page))) if name in written] == []


def snippets(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if snippets(page) and page.name not in NEED_FILES],
    ids=lambda page: page.name,
)
def test_python_of_a_page_runs_from_top_to_bottom(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "tinycudann", None)  # a page puts a module there
    names: dict[str, object] = {"__name__": "page"}
    for snippet in snippets(page):
        exec(compile(snippet, page.name, "exec"), names)
