# SPDX-License-Identifier: Apache-2.0
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurfield.errors import MachineError
from neurfield.geometry import texture
from neurfield.geometry.mesh import face_normals
from neurfield.geometry.texture import dilated, texels, unwrapped
from tests.geometry.ball import ball


@pytest.mark.parametrize("at_once", [1, 50, 1 << 22])
def test_texels_of_triangles(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against all pairs, with triangles of either orientation, without area, across the border and outside."""
    monkeypatch.setattr(texture, "_TESTED_AT_ONCE", at_once)
    height, width = 13, 17
    generator = np.random.default_rng(3)
    corners = generator.uniform((-4, -4), (width + 4, height + 4), (40, 3, 2))
    corners[7] += 100
    corners[8, 1] = corners[8, 0]
    corners[9, :, 1] = 4.5
    parts = list(texels(corners, height, width))
    assert len(parts) > 3 or at_once > 50
    found = {(int(f), int(i)): w for part in parts for f, i, w in zip(part.face, part.index, part.weights, strict=True)}
    expected = set()
    for face, (a, b, c) in enumerate(corners):
        for row in range(height):
            for column in range(width):
                q = np.array([column + 0.5, row + 0.5])
                areas = [np.linalg.det(np.stack([s - q, t - q])) for s, t in ((b, c), (c, a), (a, b))]
                if sum(areas) != 0 and (np.sign(sum(areas)) * np.array(areas) >= 0).all():
                    expected.add((face, row * width + column))
                    np.testing.assert_allclose(found[face, row * width + column] @ corners[face], q, atol=1e-9)
    assert set(found) == expected and len(expected) > 200


def test_a_square_of_two_triangles_has_all_texels_of_it() -> None:
    square = np.array([[2.0, 1], [9, 1], [9, 6], [2, 6]])
    (part,) = texels(square[[[0, 1, 2], [0, 2, 3]]], 8, 12)
    assert sorted(set(part.index)) == [12 * row + column for row in range(1, 6) for column in range(2, 9)]


@pytest.mark.parametrize("scale", [1e-5, 1.0])
def test_an_unwrapped_ball_is_the_same_ball_and_lies_flat_without_overlaps(scale: float) -> None:
    pytest.importorskip("xatlas")
    mesh = replace(ball(), vertices=ball().vertices * scale + 3 * scale)
    vertex, faces, uv = unwrapped(mesh, face_normals(mesh), 256)
    np.testing.assert_array_equal(vertex[faces], mesh.faces)
    assert uv.dtype == np.float32 and len(uv) == len(vertex) and uv.min() >= 0 and uv.max() <= 1
    corners = uv[faces].astype(np.float64) * 256
    parts = list(texels(corners, 256, 256))
    index, weights = (np.concatenate([getattr(part, name) for part in parts]) for name in ("index", "weights"))
    deep = index[weights.min(axis=1) > 1e-3]
    assert len(deep) == len(np.unique(deep)) > 0.3 * 256**2
    # triangles of one size stay so: nothing is stretched
    mesh = ball()
    across = np.cross(*(mesh.vertices[mesh.faces[:, i]] - mesh.vertices[mesh.faces[:, 0]] for i in (1, 2)))
    in_space = np.linalg.norm(across, axis=1)
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    ratio = np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0])[in_space > 0.2] / in_space[in_space > 0.2]
    assert np.percentile(ratio, 95) < 2 * np.percentile(ratio, 5)


def test_pieces_reach_beyond_their_edges() -> None:
    colors, covered = np.zeros((9, 12, 3), np.uint8), np.zeros((9, 12), bool)
    colors[3:5, 2:4], colors[3:5, 8], covered[3:5, 2:4], covered[3:5, 8] = 40, 200, True, True
    found = dilated(colors, covered, 2)
    assert (found[3:5, 0:6] == 40).all() and (found[3:5, 6:11] == 200).all()
    assert (found[0, 0] == (4 * 40 + 2 * 200) // 6).all()  # far from both: the mean
    assert (found[2, 1] == 40).all() and found.shape == (9, 12, 3)
    np.testing.assert_array_equal(found[covered], colors[covered])
    assert not dilated(colors, np.zeros_like(covered)).any()


def test_a_failing_library_is_one_line_and_progress_may_end_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("xatlas")
    mesh = ball()
    with pytest.raises(MachineError, match=r"xatlas could not lay out a texture \(ValueError: .*'none'\); try another"):
        monkeypatch.setattr(texture, "_PADDING", "none")
        unwrapped(mesh, face_normals(mesh), 64)
    monkeypatch.undo()

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        unwrapped(mesh, face_normals(mesh), 2048, stop)


def test_a_process_that_begins_slowly_gets_the_whole_mesh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As on a busy machine: the mesh is asked for long after the first look at how far the work is."""
    pytest.importorskip("xatlas")
    mesh = ball()
    assert mesh.vertices.size * 4 + mesh.faces.size * 4 > 1 << 16  # more than a pipe holds
    slow = tmp_path / "python"
    slow.write_text(f'#!/bin/sh\nsleep 0.6\nexec "{sys.executable}" "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(slow))
    end = time.monotonic() + 30

    def progress() -> None:
        assert time.monotonic() < end, "it waits for the rest"

    assert len(unwrapped(mesh, face_normals(mesh), 64, progress)[1]) == len(mesh.faces)
