# SPDX-License-Identifier: Apache-2.0
"""The table of formats: every entry recognises its own data set, and only its own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from neurfield.data import FORMATS, load_scene, read_manifest
from tests.data import small
from tests.data.test_colmap import write_text
from tests.data.test_idr import write_idr
from tests.data.test_other_programs import (
    write_llff,
    write_metashape,
    write_nerfies,
    write_nsvf,
    write_opensfm,
    write_polycam,
    write_record3d,
)


def tiny_nerf(root: Path) -> None:
    images = np.stack([small.pixels(i) for i in range(3)])
    np.savez(root / "tiny_nerf_data.npz", images=images, poses=np.stack(small.circle(3)), focal=10.0)


def colmap(root: Path) -> None:
    small.write_images(root, 3)
    write_text(root / "sparse/0", 3)


WRITERS: dict[str, Callable[[Path], object]] = {
    "nerf_synthetic": small.synthetic,
    "transforms": small.transforms,
    "tiny_nerf": tiny_nerf,
    "colmap": colmap,
    "idr": write_idr,
    "polycam": write_polycam,
    "record3d": write_record3d,
    "metashape": write_metashape,
    "opensfm": write_opensfm,
    "llff": write_llff,
    "nsvf": write_nsvf,
    "nerfies": write_nerfies,
}


@pytest.mark.parametrize("name", FORMATS)
def test_each_format_is_recognised_by_itself_only(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    assert [other for other, reader in FORMATS.items() if reader.detect(tmp_path)] == [name]
    manifest = read_manifest(tmp_path)
    assert manifest.format == name
    scene = load_scene(tmp_path, format=name)
    assert len(scene.images) == len(manifest.views) == len(scene.cameras)


def test_options_are_read_without_torch() -> None:
    """The command line's help must not wait for it."""
    import subprocess
    import sys

    code = "import sys, neurfield.cli.data; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
