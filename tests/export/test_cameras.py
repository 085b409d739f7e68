# SPDX-License-Identifier: Apache-2.0
"""Cameras of runs as transforms.json: what was read comes back."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield.cli.main import main
from neurfield.data.load import load_scene
from neurfield.errors import UserError
from neurfield.export.cameras import export_cameras
from neurfield.run import Run, train
from tests.data import small
from tests.data.test_colmap import write_binary
from tests.training.test_trainer import SMALL

LENS = {"k1": 0.1, "k2": -0.02, "p1": 0.003, "p2": -0.001}


def run_of(data: Path, **options) -> Run:
    return train(load_scene(data, **options), "ngp-fast", overrides=SMALL, max_num_iterations=0)


def assert_same(data: Path, written: Path, **options) -> None:
    """Both read as the same views, apart from the last bits of rotations."""
    ours, theirs = load_scene(data, **options), load_scene(written, **options)
    for name in ("intrinsics", "sizes", "models", "distortion", "times"):
        assert torch.equal(getattr(ours.cameras, name), getattr(theirs.cameras, name)), name
    torch.testing.assert_close(ours.cameras.c2w, theirs.cameras.c2w, rtol=1e-6, atol=1e-6)
    assert [Path(p).resolve() for p in ours.paths] == [Path(p).resolve() for p in theirs.paths]
    assert ours.splits == theirs.splits
    assert [ours.normalization.scale, *ours.normalization.offset] == [
        theirs.normalization.scale, *theirs.normalization.offset
    ] and ours.normalization.aabb_scale == theirs.normalization.aabb_scale  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(ours.images, theirs.images, strict=True))
    if ours.masks is None or theirs.masks is None:
        assert ours.masks is theirs.masks
    else:
        masks = zip(ours.masks, theirs.masks, strict=True)
        assert all(a is b is None or torch.equal(a, b) for a, b in masks)
    if ours.applied_transform is None:
        assert theirs.applied_transform is None
    else:
        assert torch.equal(ours.applied_transform, theirs.applied_transform)


def test_transforms_with_distortion_times_splits_and_a_frame_of_their_own(tmp_path):
    content = small.transforms(tmp_path, 6, **LENS)
    names = [frame["file_path"] for frame in content["frames"]]
    for i, frame in enumerate(content["frames"]):
        frame["time"] = i / 5
    content["frames"][2] |= {"fl_x": 11.0, "fl_y": 12.0}
    content |= {"train_filenames": names[:4], "test_filenames": names[4:]}
    content["applied_transform"] = [[0, 1, 0, 0.5], [1, 0, 0, 0], [0, 0, -1, 0]]
    small.write_json(tmp_path / "transforms.json", content)
    assert export_cameras(run_of(tmp_path), tmp_path / "again.json")
    assert_same(tmp_path, tmp_path / "again.json")
    assert "k1" not in json.loads((tmp_path / "again.json").read_text())  # lenses differ


def test_one_lens_for_all_is_written_once(tmp_path):
    small.transforms(tmp_path, **LENS)
    export_cameras(run_of(tmp_path), tmp_path / "again.json")
    written = json.loads((tmp_path / "again.json").read_text())
    assert written["k1"] == 0.1 and written["camera_model"] == "OPENCV"
    assert set(written["frames"][0]) == {"file_path", "transform_matrix"}
    assert_same(tmp_path, tmp_path / "again.json")


def test_fisheyes_with_masks(tmp_path):
    content = small.transforms(tmp_path, camera_model="OPENCV_FISHEYE", k1=0.05, k4=0.01)
    mask = np.full((small.HEIGHT, small.WIDTH), 255, np.uint8)
    mask[:2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    content["frames"][3]["mask_path"] = "mask.png"
    small.write_json(tmp_path / "transforms.json", content)
    export_cameras(run_of(tmp_path), tmp_path / "again.json")
    assert_same(tmp_path, tmp_path / "again.json")
    assert load_scene(tmp_path / "again.json").masks is not None


def test_panoramas_in_the_numbers_of_nerfstudio(tmp_path):
    content = small.transforms(tmp_path, 6)
    small.write_json(tmp_path / "transforms.json", {"camera_model": "EQUIRECTANGULAR", "frames": content["frames"]})
    export_cameras(run_of(tmp_path, downscale_factor=4), tmp_path / "again.json")
    written = json.loads((tmp_path / "again.json").read_text())
    lens = [written[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")]
    assert lens == [small.WIDTH / 2, small.HEIGHT, small.WIDTH / 2, small.HEIGHT / 2, small.WIDTH, small.HEIGHT]
    for factor in (1, 4):
        assert_same(tmp_path, tmp_path / "again.json", downscale_factor=factor)


def test_nerf_synthetic(tmp_path):
    small.synthetic(tmp_path)
    export_cameras(run_of(tmp_path), tmp_path / "all.json")
    assert_same(tmp_path, tmp_path / "all.json")


def test_colmap(tmp_path):
    small.write_images(tmp_path, 9)
    size = f"{small.WIDTH} {small.HEIGHT}"
    write_binary(tmp_path / "sparse" / "0", lens=f"1 OPENCV {size} 10 11 4.25 3 0.1 -0.02 0.003 -0.001")
    small.write_images(tmp_path, 1, "masks")
    (tmp_path / "masks" / "000.png").rename(tmp_path / "masks" / "003.png.png")
    export_cameras(run_of(tmp_path), tmp_path / "again.json")
    assert_same(tmp_path, tmp_path / "again.json")


def test_sizes_are_those_of_the_files(tmp_path):
    """A run on images of half the size; averaging cuts off what fills no block, here a row."""
    small.transforms(tmp_path, **LENS)
    export_cameras(run_of(tmp_path, downscale_factor=4), tmp_path / "again.json")
    assert json.loads((tmp_path / "again.json").read_text())["h"] == small.HEIGHT
    assert_same(tmp_path, tmp_path / "again.json", downscale_factor=4)


def test_the_poses_are_those_of_the_run(tmp_path):
    small.transforms(tmp_path)
    run = run_of(tmp_path)
    run.cameras.c2w[1, 0, 3] += 0.25
    with pytest.raises(UserError, match="are not those of this run"):
        export_cameras(run, tmp_path / "again.json")


def test_the_command(tmp_path, capsys):
    data = tmp_path / "data"
    data.mkdir()
    small.transforms(data)
    words = ["train", str(data), "--max-num-iterations", "1", "--output-dir", str(tmp_path / "runs"), "--set", *SMALL]
    assert main([*words, "--method", "ngp-fast", "--eval-split", "none"]) == 0
    (run,) = (tmp_path / "runs").glob("*/*/*/")
    capsys.readouterr()
    assert main(["export", "cameras", str(run), "--output", str(data / "again.json")]) == 0
    assert "9 cameras; world frame" in (out := capsys.readouterr().out) and "note" not in out
    assert main(["export", "cameras", str(run), "--output", str(tmp_path / "far.json")]) == 0
    assert "--allow-outside" not in capsys.readouterr().out  # below the folder of the file
    assert main(["export", "cameras", str(run), "--output", str(tmp_path / "else" / "far.json")]) == 0
    assert "--allow-outside" in capsys.readouterr().out
    assert_same(data, tmp_path / "else" / "far.json", allow_outside=True)
    for words, message in (
        (["--output", "out.txt"], "out.txt: cameras are written as .json"),
        (["--output", "transforms_train.json"], "by that name it is one of three files"),
        (["--output", str(data / "again.json")], "again.json exists"),
        (["--output", "out.json", "--data", str(tmp_path / "none")], "no such file or folder"),
    ):
        assert main(["export", "cameras", str(run), *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not Path("out.txt").exists() and not Path("out.json").exists()


def test_an_archive_has_no_files_to_name(tmp_path):
    poses = np.stack(small.circle(9)).astype(np.float32)
    images = np.stack([small.pixels(i) for i in range(9)])
    np.savez(tmp_path / "tiny.npz", images=images / np.float32(255), poses=poses, focal=np.float32(small.FOCAL))
    with pytest.raises(UserError, match="lie in an archive"):
        export_cameras(run_of(tmp_path / "tiny.npz"), tmp_path / "again.json")
