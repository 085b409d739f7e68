# SPDX-License-Identifier: Apache-2.0
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import trimesh

from neurfield.cli import export
from neurfield.cli.main import main
from tests.export.test_mesh import ball, ball_in_a_room, fake_run, far_ball, wall


def test_export_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    path = tmp_path / "mesh.glb"
    assert main(["export", "mesh", "RUN", "--output", str(path), "--resolution", "24"]) == 0
    out = capsys.readouterr().out
    assert "1 piece, closed, volume" in out and "world frame" in out and str(path) in out
    assert path.stat().st_size > 1000


def test_all_files_of_a_mesh_are_named_and_lead_to_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for library in ("fast_simplification", "xatlas"):
        pytest.importorskip(library)
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    folder = tmp_path / "Köln, Dom"
    path = folder / "große Tür.obj"
    assert main(["export", "mesh", "RUN", "--output", str(path), "--resolution", "24", "--texture", "64"]) == 0
    beside = [folder / f"große_Tür.{end}" for end in ("mtl", "png")]
    assert capsys.readouterr().out.endswith(f"; written to {path}, {beside[0]}, {beside[1]}\n")
    assert sorted(folder.iterdir()) == sorted([path, *beside])
    assert trimesh.load(path).visual.material.image.size == (64, 64)


def test_a_scene_that_is_cut_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(far_ball, aabb_scale=4))
    words = ["export", "mesh", "RUN", "--output", str(tmp_path / "m.ply"), "--resolution", "24", "--overwrite"]
    for extent, way in ((1, "2 looks further, 4 at all of it"), (2, "4 looks at all of it")):
        note = f"note: the scene reaches beyond the cube of side {extent}; --extent {way}\n"
        assert main([*words, "--extent", str(extent)]) == 0 and note in capsys.readouterr().out
    assert main([*words, "--extent", "4", "--surface", "closed"]) == 0 and "note" not in capsys.readouterr().out
    assert (
        main([*words, "--extent", "4"]) == 0
        and "that no training view sees; --surface closed" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "inside,expected",
    [
        (wall, r"the cube of side 1 holds 71% of what the .* see, so that of side 2 was taken; --extent 1 has smaller"),
        (
            ball_in_a_room,
            r"the cube of side 1, which holds \d+% of what the .* see; --extent 2 looks further, 4 at all",
        ),
    ],
)
def test_what_chose_the_cube_is_told(
    inside: Callable, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(inside, aabb_scale=4))
    assert main(["export", "mesh", "RUN", "--output", str(tmp_path / "m.ply"), "--resolution", "24"]) == 0
    notes = [line for line in capsys.readouterr().out.splitlines() if line.startswith("note") and "extent" in line]
    assert len(notes) == 1 and re.search(expected, notes[0])


def test_wrong_use_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    for words, message in (
        (["--level", "high"], "--level must be auto or a number, got 'high'"),
        (["--level", "-3"], "--level must be a density above 0, got -3"),
        (["--resolution", "1"], "--resolution must be 8 ... 4096, got 1"),
    ):
        assert main(["export", "mesh", "RUN", "--output", str(tmp_path / "m.ply"), *words]) == 2
        err = capsys.readouterr().err
        assert message in err and err.count("\n") == 1
    assert not list(tmp_path.iterdir())
