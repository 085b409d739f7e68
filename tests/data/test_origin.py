# SPDX-License-Identifier: Apache-2.0
"""Worlds far from their origin, as of surveys: nothing of the poses is lost, and what comes out says where it lies."""

import json
from pathlib import Path

import numpy as np
import pytest

import neurfield
from neurfield.cli.main import main
from neurfield.data import load_scene, read_manifest
from neurfield.data.normalize import from_poses
from neurfield.errors import UserError
from tests.data.small import circle, transforms, write_images, write_json
from tests.data.test_colmap import write_text
from viewer.show_scene import scene_data

SURVEY = np.array([691234.56, 5334567.25, 512.5])  # metres of UTM


def write_survey(root: Path, n: int = 9) -> None:
    content = transforms(root, n)
    for frame in content["frames"]:
        frame["transform_matrix"] = np.array(frame["transform_matrix"])
        frame["transform_matrix"][:3, 3] += SURVEY
        frame["transform_matrix"] = frame["transform_matrix"].tolist()
    write_json(root / "transforms.json", content)


def test_poses_far_away_are_as_exact_as_near_ones(tmp_path: Path) -> None:
    transforms(tmp_path / "near")
    write_survey(tmp_path / "far")
    near, far = (load_scene(tmp_path / name) for name in ("near", "far"))
    assert near.normalization.origin == (0, 0, 0) and near.normalization.world == "world frame"
    expected, found = (scene.unit_cameras("train").c2w for scene in (near, far))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    origin = np.array(far.normalization.origin)
    assert np.all(origin == np.rint(origin / 10) * 10)  # such as one can add in one's head
    np.testing.assert_allclose(
        far.cameras.c2w[:, :, 3].numpy() + origin, [pose[:3, 3] + SURVEY for pose in circle(9)], atol=1e-4
    )
    assert "whose origin is at (691230, 5334570, 510) of the data" in far.notes[-1]


def test_origins_are_written_in_few_digits(tmp_path: Path) -> None:
    """That of a small world, too, and exactly."""
    transforms(tmp_path, scale=2000.0, offset=[-599.5, 0.75, 10_000.5])
    moved = read_manifest(tmp_path).normalization
    assert moved.origin == (0.3, 0.0, -5.0)
    assert moved.world.endswith("at (0.3, 0, -5) of the data")


def test_how_far_views_stand_apart_is_seen_from_far_away_too() -> None:
    """Views that look outward say nothing else of the size of their scene."""
    poses = np.stack(circle(9, 2.0, 0.1))[:, :3] * [-1, 1, -1, 1]
    far = poses + np.concatenate([np.zeros((3, 3)), SURVEY[:, None]], axis=1)
    near, moved = (from_poses(c2w, np.full((9, 2), 0.4), has_alpha=False)[0] for c2w in (poses, far))
    assert moved.scale == pytest.approx(near.scale)


def test_points_of_a_far_model_are_where_its_cameras_are(tmp_path: Path) -> None:
    write_images(tmp_path, 9)
    model = write_text(tmp_path / "sparse/0")
    lines = (model / "images.txt").read_text().splitlines()
    for i, line in enumerate(lines):
        words = line.split()
        if len(words) == 10:
            pose = circle(9)[int(words[0]) - 7]
            words[5:8] = [f"{x:.17g}" for x in -(np.diag([1, -1, -1]) @ pose[:3, :3].T) @ (pose[:3, 3] + SURVEY)]
            lines[i] = " ".join(words)
    (model / "images.txt").write_text("\n".join(lines) + "\n")
    (model / "points3D.txt").write_text("1 " + " ".join(f"{x:.17g}" for x in SURVEY + 0.25) + " 9 8 7 0.5\n")
    manifest = read_manifest(tmp_path)
    cloud = scene_data(manifest).cloud
    assert cloud is not None
    np.testing.assert_allclose(cloud.positions[0] + np.array(manifest.normalization.origin), SURVEY + 0.25, atol=1e-5)


def test_results_say_where_they_lie(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_images(tmp_path, 9, channels=3)
    write_survey(tmp_path)
    scene = load_scene(tmp_path)
    run = neurfield.train(scene, "ngp-fast", max_num_iterations=1, output_dir=tmp_path / "out")
    assert run.path is not None
    assert main(["export", "cameras", str(run.path), "--output", str(tmp_path / "again.json")]) == 0
    written = json.loads((tmp_path / "again.json").read_text())
    np.testing.assert_allclose(
        [frame["transform_matrix"][0][3] for frame in written["frames"]],
        [pose[0, 3] + SURVEY[0] for pose in circle(9)],
        atol=1e-5,
    )
    again = load_scene(tmp_path / "again.json")
    assert again.normalization.origin == scene.normalization.origin
    np.testing.assert_allclose(again.cameras.c2w, scene.cameras.c2w, atol=1e-6)
    assert neurfield.load(run.path).views.normalization == scene.normalization
    for frame in (content := json.loads((tmp_path / "transforms.json").read_text()))["frames"]:
        frame["transform_matrix"][0][3] += 10_000  # by which its origin moves, too
    write_json(tmp_path / "transforms.json", content)
    with pytest.raises(UserError, match="map into unit space, are not those of"):
        run.export_cameras(tmp_path / "elsewhere.json")
    run.export_views(tmp_path / "views", scene.cameras[:1])
    assert (
        "whose origin is at (691230, 5334570, 510)" in json.loads((tmp_path / "views/frames.json").read_text())["axes"]
    )
