# SPDX-License-Identifier: Apache-2.0
import sys
from pathlib import Path

import pytest
import torch

from neurfield.errors import MachineError, UserError
from neurfield.rendering.video import VideoWriter

av = pytest.importorskip("av")


def frame(height: int, width: int, color: tuple[int, int, int]) -> torch.Tensor:
    return torch.tensor(color, dtype=torch.uint8).expand(height, width, 3).clone()


def test_frames_come_back_with_their_colours_and_rate(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    colors = [(220, 30, 40), (30, 200, 60), (40, 60, 210), (250, 250, 250), (5, 5, 5)]
    with VideoWriter(path, 12.5) as writer:
        for color in colors:
            writer.add(frame(35, 49, color))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.pix_fmt, stream.average_rate) == ("h264", "yuv420p", 12.5)
        assert (stream.width, stream.height) == (48, 34)
        decoded = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(decoded) == len(colors)
    for image, color in zip(decoded, colors, strict=True):
        # 8-bit limited-range YCbCr rounds by up to 2 in RGB, quantisation of a flat block by a little more
        assert abs(image.reshape(-1, 3).mean(axis=0) - color).max() < 5


def test_index_comes_first_so_that_players_start_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 30) as writer:
        writer.add(frame(16, 16, (1, 2, 3)))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_wrong_use_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="fps must be above 0 and at most 240, got 0"):
        VideoWriter(tmp_path / "a.mp4", 0)
    with pytest.raises(MachineError, match="cannot write"), VideoWriter(tmp_path / "none" / "a.mp4", 30) as writer:
        writer.add(frame(16, 16, (0, 0, 0)))
    with pytest.raises(UserError, match="at least 2 x 2 pixels"), VideoWriter(tmp_path / "b.mp4", 30) as writer:
        writer.add(frame(1, 9, (0, 0, 0)))
    wide = r"at most 16384 pixels a side, and this one would be 16386 x 2; make its pictures smaller"
    with pytest.raises(UserError, match=wide), VideoWriter(tmp_path / "c.mp4", 30) as writer:
        writer.add(frame(2, 16386, (0, 0, 0)))
    with VideoWriter(tmp_path / "c.mp4", 30) as writer:
        writer.add(frame(2, 16384, (0, 0, 0)))
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UserError, match="videos need PyAV, which is not installed: pip install av"):
        VideoWriter(tmp_path / "a.mp4", 30)
