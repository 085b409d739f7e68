# SPDX-License-Identifier: Apache-2.0
"""A trained ball and a viewer of it; headless Chromium, where the machine has one."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import neurfield
from neurfield.viewer import ServeOptions, Viewer, shown_run
from tests.scenes import ball_scene, write_transforms
from tests.training.test_trainer import SMALL

STEPS = 250
SIZE = 64  # of the photos
# Fog is punished, so that seconds of training make a surface.
METHOD = (*SMALL, "field.max_resolution=32", "loss.distortion=0.05", "loss.opacity_entropy=0.001")


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_transforms(ball_scene(16, 2, SIZE), tmp_path_factory.mktemp("viewer") / "ball")


@pytest.fixture(scope="session")
def run(data: Path) -> neurfield.Run:
    """Trained; its folder is beside the data."""
    scene = neurfield.load_scene(data)
    return neurfield.train(
        scene, "ngp-fast", overrides=METHOD, max_num_iterations=STEPS, output_dir=data.parent / "out"
    )


@pytest.fixture
def viewer(run: neurfield.Run) -> Iterator[Viewer]:
    with Viewer(shown_run(run), ServeOptions(port=0)) as viewer:
        yield viewer


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
