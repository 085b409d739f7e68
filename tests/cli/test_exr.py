# SPDX-License-Identifier: Apache-2.0
"""Linear EXR images through loading and training: the same picture as sRGB PNG gives."""

import json
from pathlib import Path

import numpy as np
import pytest

from neurfield.cli.main import main
from neurfield.data import load_scene
from tests.data.test_images import write_exr
from tests.scenes import ball_scene, write_transforms
from tests.training.test_trainer import SMALL


def linear(srgb: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, the way back from 0 ... 1."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, Path]:
    """The ball as 8-bit PNG and as EXR of the same colours."""
    scene = ball_scene(12, 2, 32)
    made = {kind: write_transforms(scene, tmp_path / kind) for kind in ("png", "exr")}
    for view, image in enumerate(scene.images):
        rgba = image.numpy() / 255
        premultiplied = np.concatenate([linear(rgba[..., :3]) * rgba[..., 3:], rgba[..., 3:]], axis=2)
        write_exr(made["exr"] / f"images/{view:03d}.exr", premultiplied.astype(np.float32))
        (made["exr"] / f"images/{view:03d}.png").unlink()
    file = made["exr"] / "transforms.json"
    file.write_text(file.read_text().replace(".png", ".exr"))
    return made


def test_images_stay_linear(folders):
    exr, png = (load_scene(folders[kind]) for kind in ("exr", "png"))
    assert exr.has_alpha and exr.splits == png.splits
    for ours, theirs in zip(exr.images, png.images, strict=True):
        solid = theirs[..., 3].numpy() > 0
        expected = linear(theirs[..., :3].numpy() / 255)[solid]
        np.testing.assert_allclose(ours[..., :3].numpy()[solid], expected, rtol=1e-6)


def test_training_sees_what_it_sees_in_png(folders, tmp_path, capsys):
    """Both runs are measured against the PNG: a field of linear colours would be far too dark."""
    found = {}
    for kind, folder in folders.items():
        words = ["train", str(folder), "--output-dir", str(tmp_path), "--max-num-iterations", "100", "--timestamp", "t"]
        assert main([*words, "--set", *SMALL]) == 0
        capsys.readouterr()
        assert main(["eval", str(tmp_path / kind / "ngp-fast/t"), "--data", str(folders["png"])]) == 0
        found[kind] = json.loads(capsys.readouterr().out)["psnr"]
    assert found["exr"] == pytest.approx(found["png"], abs=0.5) and found["png"] > 16
