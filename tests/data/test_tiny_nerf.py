# SPDX-License-Identifier: Apache-2.0
"""Archives in the layout of tiny_nerf_data.npz."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from neurfield.data import load_scene
from neurfield.errors import UserError
from tests.data.small import circle, pixels


def write(path: Path, n: int = 16, **changes: Any) -> Path:
    images = np.stack([pixels(i) for i in range(n)]).astype(np.float32) / 255
    arrays = {"images": images, "poses": np.stack(circle(n)), "focal": np.array(10.0)} | changes
    np.savez_compressed(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_float_images_come_back_as_the_bytes_they_were(tmp_path: Path) -> None:
    images = np.stack([pixels(i) for i in range(16)]).astype(np.float64) / 255
    off = np.random.default_rng(1).uniform(-0.4, 0.4, images.shape) / 255  # to be rounded, not cut
    write(tmp_path / "a.npz", images=np.clip(images + off, 0, 1).astype(np.float32))
    scene = load_scene(tmp_path / "a.npz")
    for i in (0, 15):
        np.testing.assert_array_equal(scene.images[i].numpy(), pixels(i))
    assert scene.cameras.intrinsics[0].tolist() == [10.0, 10.0, 4.0, 3.0]
    assert scene.splits["test"] == [0, 8] and scene.normalization.source == "synthetic"
    write(tmp_path / "tiny_nerf_data.npz")
    assert len(load_scene(tmp_path).images) == 16


def test_the_first_hundred_train_as_in_the_tutorial(tmp_path: Path) -> None:
    scene = load_scene(write(tmp_path / "a.npz", n=106))
    assert scene.splits["train"] == list(range(100)) and scene.splits["test"] == list(range(100, 106))
    only = load_scene(tmp_path / "a.npz", splits=("test",), downscale_factor=2)
    assert len(only.images) == 6 and only.images[0].shape == (3, 4, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"focal": None}, "expected the arrays images, poses, focal, no focal"),
        ({"focal": np.array([1.0, 2.0])}, "one positive number"),
        ({"focal": np.array(np.nan)}, "one positive number"),
        ({"poses": np.zeros((16, 4, 4))}, "view 0: .*singular|view 0: .*last row"),
        ({"poses": np.zeros((3, 4, 4))}, r"poses must be \[16, 4, 4\]"),
        ({"images": np.zeros((16, 6, 8), np.float32)}, "images must be uint8 or float"),
        ({"images": np.full((16, 6, 8, 3), 2.0)}, "must lie in 0 ... 1"),
        ({"images": np.full((16, 6, 8, 3), np.nan)}, "must lie in 0 ... 1"),
        ({"images": np.zeros((0, 6, 8, 3))}, "images must be uint8 or float"),
    ],
)
def test_unusable_archives(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_scene(write(tmp_path / "a.npz", **changes))


def test_large_arrays_are_refused_by_their_header(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz", n=1, images=np.zeros((1, 1200, 1000, 3), np.uint8))
    with pytest.raises(UserError, match="more than the 1 allowed"):
        load_scene(path, max_megapixels=1.0)


class Trap:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was opened",))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    with pytest.raises(UserError):
        load_scene(write(tmp_path / "a.npz", focal=np.array([Trap()], dtype=object)))
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match="not a readable NumPy archive"):
        load_scene(tmp_path / "b.npz")


def test_truncated_archive(tmp_path: Path) -> None:
    path = write(tmp_path / "a.npz")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="not a readable NumPy archive"):
        load_scene(path)
