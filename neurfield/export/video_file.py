# SPDX-License-Identifier: Apache-2.0
"""A sampled video, picture by picture: never more than one in memory."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from neurfield.data.signals.grid import GridInfo
from neurfield.data.signals.video import DEFAULT_FPS
from neurfield.errors import UserError
from neurfield.export.sampled_array import sampled_array
from neurfield.fields.signal_field import grid_positions
from neurfield.files import atomic_path
from neurfield.progress import Progress, silent
from neurfield.rendering.video import MAX_FPS, SUFFIXES, VideoWriter


class _Moment(nn.Module):
    """A video's field at one time."""

    def __init__(self, field: nn.Module, time: float):
        super().__init__()
        self._field, self._time = field, time

    def forward(self, x: Tensor) -> Tensor:
        return self._field(torch.cat([x, x.new_full((len(x), 1), self._time)], dim=1))


def write_video(
    field: nn.Module,
    info: GridInfo,
    sizes: tuple[int, ...],
    path: Path,
    progress: Progress = silent,
) -> None:
    """Samples a field at `sizes` (frames, height, width); the video lasts as long as its source.

    Raises:
        UserError: unknown suffix, no H.264 encoder.
        MachineError: the disk refuses.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        with atomic_path(path) as temporary:
            sampled_array(field, info, sizes, progress, temporary)
        return
    if suffix not in SUFFIXES:
        raise UserError(f"{path}: a video is written as {', '.join(SUFFIXES)} or .npy")
    n_frames, size = sizes[0], sizes[1:]
    fps = min((info.fps or DEFAULT_FPS) * n_frames / info.sizes[0], MAX_FPS)
    times = grid_positions(torch.arange(n_frames), (n_frames,))[:, 0].tolist()
    plane = replace(info, sizes=size)
    with atomic_path(path) as temporary, VideoWriter(temporary, fps) as writer:
        for k, time in enumerate(times):
            writer.add(torch.from_numpy(sampled_array(_Moment(field, time), plane, size)))
            progress((k + 1) / n_frames)
