# SPDX-License-Identifier: Apache-2.0
"""What commands print while they work, on terminals of any width and with none."""

import io
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from neurfield.cli import _console
from neurfield.cli._console import Progress, figures
from neurfield.cli.main import main
from tests.data.small import transforms
from tests.scenes import ball_scene, write_synthetic
from tests.training.test_trainer import SMALL


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("columns", "shown"), [(40, "step 139"), (80, "psnr 14.53, loss 0.03520")])
def test_a_narrow_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(_console, "_LIVE_INTERVAL", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    with Progress("train") as progress:
        progress.update(0.46, "step 139, psnr 14.53, loss 0.03520, 0.30 M samples/s, 3.9 k rays/s")
    line = next(line for line in terminal.getvalue().split("\r") if "46%" in line)
    assert "train  46%" in line and "left" in line and shown in line


def test_what_was_done_before_does_not_shorten_what_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is resumed at half, and has done a tenth in ten seconds, has forty more to go."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Progress("train", begun=0.5) as progress:
        clock[0] += 10
        progress.update(0.6, "step 7")
    assert capsys.readouterr().err == "train  60%  40 s left, step 7\n"


def test_the_time_that_is_left_is_counted_down_where_the_fraction_stands_still(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part whose progress nobody knows, as the layout of a texture, does not make it grow."""
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with Progress("export mesh") as progress:
        for fraction, seconds in ((0.1, 4), (0.1, 6), (0.1, 20), (0.1, 30), (0.5, 5)):
            clock[0] += seconds
            progress.update(fraction)
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    whole = "export mesh  10%  "
    assert lines == [whole + "30 s left", whole + "10 s left", whole.strip(), "export mesh  50%  1 min 05 s left"]


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams_are_no_fault(tmp_path: Path, closed: str) -> None:
    transforms(tmp_path)
    command = f"'{sys.executable}' -m neurfield data info '{tmp_path}' --output '{tmp_path}/c.png' {closed}"
    assert subprocess.run(["sh", "-c", command], timeout=120).returncode == 0
    assert (tmp_path / "c.png").exists()


@pytest.mark.parametrize("kind", ["scene", "image"])
def test_a_budget_without_a_step_leaves_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    if kind == "scene":
        words = ["train", str(write_synthetic(ball_scene(), tmp_path / "ball")), "--set", *SMALL]
    else:
        np.save(tmp_path / "noise.npy", np.random.default_rng(0).random((16, 16)))
        words = ["train", str(tmp_path / "noise.npy")]
    words += ["--output-dir", str(tmp_path / "out")]
    too_little = (
        "--max-seconds 0",
        "--max-num-iterations 0",
        "--max-seconds 9 --max-num-iterations 0",
        "--max-seconds 1e-3",
    )
    for budget in too_little:
        assert main([*words, *budget.split()]) == 2
        error = capsys.readouterr().err
        assert "; give a larger one" in error and error.count("\n") == 1
        assert not (tmp_path / "out").exists()  # of which later commands would take the newest run
    assert main([*words, "--max-num-iterations", "1"]) == 0 and "PSNR" in capsys.readouterr().out
    assert main([*words[:2], *words[-2:], "--max-num-iterations", "0", "--resume", "--eval-split", "none"]) == 0
    assert "1 steps" in (said := capsys.readouterr().out) and "no step was taken; give a larger one" in said


def test_all_that_was_measured_is_told() -> None:
    assert figures({"psnr": 33.841, "ssim": 0.97865, "n_views": 3}) == "PSNR 33.84 dB, SSIM 0.9787"
    assert figures({"lpips": 0.05, "ws_psnr": 30.0}) == "WS-PSNR 30.00 dB, LPIPS 0.0500"
