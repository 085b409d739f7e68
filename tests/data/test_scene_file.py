# SPDX-License-Identifier: Apache-2.0
"""Scene files: a path and options in YAML."""

from pathlib import Path

import pytest

from neurfield.data import load_scene
from neurfield.data.options import LoadOptions, ReadOptions
from neurfield.errors import UserError
from tests.data.small import transforms


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "capture").mkdir()
    transforms(tmp_path / "capture", n=10)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "room.yaml"
    path.write_text(text)
    return path


def test_options_and_path_relative_to_the_file(folder: Path) -> None:
    path = write(folder, "path: capture\ndownscale_factor: 2\nscale: 0.2\noffset: [0.5, 0.5, 0.4]\naabb_scale: 4\n")
    scene = load_scene(path)
    assert scene.name == "room" and scene.images[0].shape == (3, 4, 3)
    norm = scene.normalization
    assert (norm.scale, norm.offset, norm.aabb_scale) == (0.2, (0.5, 0.5, 0.4), 4)


def test_the_caller_wins(folder: Path) -> None:
    path = write(folder, "path: capture\nname: den\ntest_every: 5\nscale: 0.2\n")
    scene = load_scene(path, scale=0.1)
    assert scene.name == "den" and scene.normalization.scale == 0.1 and scene.splits["test"] == [0, 5]


def test_none_is_no_wish(folder: Path) -> None:
    """What a run keeps of it would have no default otherwise, and could not be read again."""
    scene = load_scene(write(folder, "path: capture\ntest_every: 5\n"), test_every=None, downscale_factor=None)
    assert (scene.options.test_every, scene.options.downscale_factor) == (5, 1)


def test_the_caller_wins_with_the_default_too(folder: Path) -> None:
    path = write(folder, "path: capture\ntest_every: 5\ndownscale_factor: 2\nallow_outside: true\n")
    scene = load_scene(path, ReadOptions(test_every=8), downscale_factor=1)
    assert scene.images[0].shape == (6, 8, 3) and scene.splits["test"] == [0, 8]
    assert scene.options == LoadOptions(allow_outside=True)
    assert load_scene(path, LoadOptions()).images[0].shape == (6, 8, 3)
    assert load_scene(path, ReadOptions(), splits=("test",)).images[0].shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path: capture\ndownscale: 2\n", r"room\.yaml:2: unknown key 'downscale', did you mean 'downscale_factor'"),
        ("path: capture\nscale: 1\nscale: 2\n", r"room\.yaml:3: duplicate key 'scale', first given in line 2"),
        ("scale: 1\n", "missing key 'path'"),
        ("path: capture\naabb_scale: 3\n", r"room\.yaml: .*aabb_scale must be a power of two from 1 to 128, got 3"),
        ("path: capture\nscale: -1\n", r"room\.yaml:2: scale"),
        ("path: capture\noffset: [1, 2]\n", "offset must be three numbers"),
        ("path: capture\ntest_every: 1\n", "test_every must be 0 or at least 2"),
        ("path: nowhere\n", "no data at .*nowhere"),
        ("path: room.yaml\n", "not another scene file"),
        ("path: capture\nformat: transform\n", "unknown data format 'transform', did you mean 'transforms'"),
        ("path: !!python/object/apply:os.system ['true']\n", r"room\.yaml:1"),
        ("- a\n- b\n", "expected a mapping"),
        (": : :", "not valid YAML|expected"),
    ],
)
def test_unusable_files(folder: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_scene(write(folder, text))
