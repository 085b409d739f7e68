# SPDX-License-Identifier: Apache-2.0
from pathlib import Path

import pytest

from neurfield.cli import export
from neurfield.cli.main import main
from tests.export.test_mesh import ball, fake_run, far_ball


def test_export_says_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(export, "load_scene_run", lambda path, what: fake_run(ball))
    path = tmp_path / "mesh.glb"
    assert main(["export", "mesh", "RUN", "--output", str(path), "--resolution", "24"]) == 0
    out = capsys.readouterr().out
    assert "1 piece, closed, volume" in out and "world frame" in out and str(path) in out
    assert path.stat().st_size > 1000


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
