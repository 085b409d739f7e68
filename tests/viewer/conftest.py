# SPDX-License-Identifier: Apache-2.0
"""A trained ball and a viewer of it, trained fields of files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import neurfield
from neurfield.viewer import ServeOptions, Viewer, shown_run
from tests.meshes import icosphere
from tests.scenes import ball_scene, write_transforms
from tests.signals.files import write_obj, write_picture, write_video
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


VIDEO_PICTURES = 12
SIGNAL_SETS = (
    "field.encoding.n_levels=8", "field.encoding.log2_hashmap_size=15", "field.encoding.base_resolution=8",
    "training.n_samples=16384",
)  # fmt: skip


def volume() -> np.ndarray:
    """float32 `[24, 20, 16]`: 0 ... 0.6 along x, and a bright block at low x, low y and high z."""
    values = np.repeat(np.linspace(0, 0.6, 24, dtype=np.float32), 20 * 16).reshape(24, 20, 16).copy()
    values[:6, :5, 12:] = 1.0
    return values


@pytest.fixture(scope="session")
def signal_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small file of each kind."""
    folder = tmp_path_factory.mktemp("signals")
    np.save(folder / "block.npy", volume())
    return {
        "image": write_picture(folder / "picture.png", 96, 128),
        "video": write_video(folder / "clip.mp4", VIDEO_PICTURES, 6.0),
        "volume": folder / "block.npy",
        "sdf": write_obj(folder / "ball.obj", *icosphere(3)),
    }


@pytest.fixture(scope="session")
def signal_runs(signal_files: dict[str, Path]) -> dict[str, neurfield.SignalRun]:
    """A trained field of each."""
    quick = (*SIGNAL_SETS, "training.n_samples=4096")  # enough for all but the normals of a shape
    return {
        kind: neurfield.train_signal(path, max_num_iterations=400, overrides=SIGNAL_SETS if kind == "sdf" else quick)
        for kind, path in signal_files.items()
    }


@pytest.fixture
def viewer(run: neurfield.Run) -> Iterator[Viewer]:
    with Viewer(shown_run(run), ServeOptions(port=0)) as viewer:
        yield viewer
