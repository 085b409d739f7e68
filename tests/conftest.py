# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Data sets are read from NEURFIELD_DATA (default ../shared/data), pages in the machine's Chromium; tests
skip without them."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neurfield  # noqa: F401 (says how torch's threads wait, which is read when torch is imported)

import torch  # isort: skip

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; tests send it
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def data_root() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("NEURFIELD_DATA") or default)
    if not root.is_dir():
        pytest.skip(f"no data sets at {root}; set NEURFIELD_DATA")
    return root


@pytest.fixture(autouse=True)
def _auto_is_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, `auto` leaves it alone but in the tests that are for it: the others count on equal bits."""
    if torch.cuda.is_available() and not request.node.get_closest_marker("cuda"):
        monkeypatch.setenv("NEURFIELD_CUDA", "0")


@pytest.fixture
def heard() -> Iterator[None]:
    """Signals that are asked to end are not ignored, though nohup may have started the tests; as before afterwards."""
    kinds = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    old = {kind: signal.signal(kind, signal.default_int_handler) for kind in kinds}
    yield
    for kind in kinds:
        signal.signal(kind, old[kind])


def chromium_path() -> str | None:
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return os.environ.get("NEURFIELD_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed: pip install playwright"
    )
    path = chromium_path()
    if path is None:
        pytest.skip("no Chromium: apt-get install chromium, or set NEURFIELD_CHROMIUM")
    # software rendering everywhere, so that pictures do not depend on the machine
    gl = ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist")
    with playwright.sync_playwright() as p:
        chromium = p.chromium.launch(executable_path=path, args=["--no-sandbox", *gl])
        yield chromium
        chromium.close()


@pytest.fixture(scope="session")
def artefacts() -> Path:
    """Where screenshots are kept, to be looked at."""
    folder = Path(os.environ.get("NEURFIELD_ARTEFACTS") or "build/viewer-tests")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
