# SPDX-License-Identifier: Apache-2.0
"""Kinds of signals: how each is learned, measured and written; neurfield.data.signals reads them by the same names.

What a new kind needs besides a line here: docs/signals.md.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from neurfield.data.signals.grid import GridInfo, GridSignal
from neurfield.data.signals.mesh import MeshInfo, MeshSignal
from neurfield.errors import UserError
from neurfield.export.image_file import write_image
from neurfield.export.occupancy_distance import OccupancyDistance
from neurfield.export.sdf_picture import write_sdf_picture
from neurfield.export.video_file import write_video
from neurfield.export.volume_file import write_volume
from neurfield.fields.signal_field import SignalField, SignalFieldConfig, grid_field
from neurfield.progress import Progress
from neurfield.rendering.sphere_trace import Distance
from neurfield.rendering.video import DEFAULT_FPS
from neurfield.training.grid_evaluation import evaluate_grid
from neurfield.training.grid_task import GridTask
from neurfield.training.occupancy_task import OccupancyTask
from neurfield.training.sdf_evaluation import evaluate_sdf
from neurfield.training.sdf_task import SdfTask, sdf_field
from neurfield.training.signal_method import SignalRunConfig
from neurfield.training.task import Task

MAX_SAMPLES = 1 << 36
SHAPE_PICTURE = 512  # pixels a side
SHAPE_SAMPLES = 64  # a side, where a shape is needed on a grid; distances are smooth
SURFACE_CELLS = 256  # a side of the mesh that stands for the surface of an occupancy field


@dataclass(frozen=True)
class SignalRender:
    """What is to be drawn: numbers of samples as the user writes them, or a scale of the source's; of a shape
    how many views, and how many a second of video.

    Raises:
        UserError: a scale out of 0.001 ... 1000.
    """

    resolution: Sequence[int] | None = None
    scale: float = 1.0
    orbit: int = 1
    elevation: float | None = None
    fps: float = DEFAULT_FPS

    def __post_init__(self) -> None:
        if not 1e-3 <= self.scale <= 1e3:
            raise UserError(f"--scale must be 0.001 ... 1000, got {self.scale:g}")


@dataclass(frozen=True)
class Kind:
    """What a kind of signal is made of.

    Attributes:
        info: frozen dataclass of what a checkpoint keeps of the data, with a `name`.
        field: builds the field from its configuration, an info and a seed.
        sampled: the data `[n_channels, ...]` on a regular grid, as the field sees them, the last axis first.
        task: what a training learns; making it may take a while.
        evaluate: measures a field against the data.
        summary: metrics worth a line, by name, with their format.
        write: draws a field into a file (or a folder).
        distance: of shapes: a signed distance that follows the field (the field, or one made of it at a resolution
            in cells per side); takes a count that grows when the field changes. None: no shape.
    """

    info: type
    field: Callable[[SignalFieldConfig, Any, int], SignalField]
    sampled: Callable[[Any], Tensor]
    task: Callable[[Any, SignalRunConfig, Progress], Task]
    evaluate: Callable[[nn.Module, Any, Progress], dict[str, Any]]
    summary: Mapping[str, str]
    write: Callable[[nn.Module, Any, SignalRender, Path, Progress], None]
    distance: Callable[[nn.Module, int, Callable[[], int]], Distance] | None = None


def _grid_field(config: SignalFieldConfig, info: GridInfo, seed: int) -> SignalField:
    return grid_field(config, info.sizes, info.n_channels, seed)


def _grid_task(signal: GridSignal, config: SignalRunConfig, progress: Progress) -> Task:
    return GridTask(signal, config)


def _sampled_grid(signal: GridSignal) -> Tensor:
    return torch.from_numpy(signal.averaged())


def _sampled_shape(signal: MeshSignal) -> Tensor:
    return signal.sampled(SHAPE_SAMPLES)


def _sampled_solid(signal: MeshSignal) -> Tensor:
    return (signal.sampled(SHAPE_SAMPLES) < 0).float()


def _field_itself(field: nn.Module, resolution: int, version: Callable[[], int]) -> Distance:
    return field


def _evaluate_solid(field: nn.Module, signal: MeshSignal, progress: Progress) -> dict[str, Any]:
    return evaluate_sdf(OccupancyDistance(field, SURFACE_CELLS), signal, progress)


def _write_solid(field: nn.Module, info: MeshInfo, asked: SignalRender, path: Path, progress: Progress) -> None:
    _write_shape(OccupancyDistance(field, SURFACE_CELLS), info, asked, path, progress)


def _evaluate_grid(per_first_axis: bool, field: nn.Module, signal: Any, progress: Progress) -> dict[str, Any]:
    return evaluate_grid(field, signal, per_first_axis, progress)


def _write_grid(
    write: Callable[..., None],
    reversed_axes: bool,
    field: nn.Module,
    info: GridInfo,
    asked: SignalRender,
    path: Path,
    progress: Progress,
) -> None:
    write(field, info, _sizes(info, asked, reversed_axes), path, progress)


def _sizes(info: GridInfo, asked: SignalRender, reversed_axes: bool) -> tuple[int, ...]:
    """Samples per axis of the array; users write those of pictures as width, height."""
    sizes = tuple(max(round(size * asked.scale), 1) for size in info.sizes)
    if asked.resolution is not None:
        given = tuple(asked.resolution[::-1] if reversed_axes else asked.resolution)
        n_free = len(info.sizes) - len(given)
        if n_free < 0 or (n_free > 0 and not (reversed_axes and len(given) == 2)):
            axes = "WIDTH HEIGHT" if reversed_axes else "one number per axis"
            raise UserError(f"--resolution: expected {axes} for data of {info.extent}, got {len(given)} numbers")
        sizes = info.sizes[:n_free] + given
    total = 1
    for size in sizes:
        total *= size
    if min(sizes) < 1 or total > MAX_SAMPLES:
        drawn = " x ".join(map(str, sizes[::-1] if reversed_axes else sizes))
        raise UserError(f"--resolution, --scale: cannot draw {drawn} samples, only 1 ... {MAX_SAMPLES} in all")
    return sizes


def _write_shape(field: nn.Module, info: MeshInfo, asked: SignalRender, path: Path, progress: Progress) -> None:
    size = asked.resolution or (SHAPE_PICTURE, SHAPE_PICTURE)
    if len(size) != 2:
        raise UserError(f"--resolution: expected WIDTH HEIGHT, got {len(size)} numbers")
    width, height = (max(round(side * asked.scale), 1) for side in size)
    write_sdf_picture(
        field, (width, height), asked.orbit, 20.0 if asked.elevation is None else asked.elevation, path, progress,
        asked.fps,
    )  # fmt: skip


_PICTURE = {"psnr": "PSNR {:.2f} dB", "ssim": "SSIM {:.4f}", "bits_per_sample": "{:.2f} bits per pixel"}
_VOLUME = {"psnr": "PSNR {:.2f} dB", "bits_per_sample": "{:.2f} bits per voxel"}
_SHAPE = {"iou": "IoU {:.4f}", "chamfer_percent": "Chamfer {:.4f} % of the diagonal", "chamfer": "{:.3g} units"}

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "image": Kind(
            GridInfo, _grid_field, _sampled_grid, _grid_task, partial(_evaluate_grid, False), _PICTURE,
            partial(_write_grid, write_image, True),
        ),
        "video": Kind(
            GridInfo, _grid_field, _sampled_grid, _grid_task, partial(_evaluate_grid, True), _PICTURE,
            partial(_write_grid, write_video, True),
        ),
        "volume": Kind(
            GridInfo, _grid_field, _sampled_grid, _grid_task, partial(_evaluate_grid, False), _VOLUME,
            partial(_write_grid, write_volume, False),
        ),
        "sdf": Kind(
            MeshInfo, sdf_field, _sampled_shape, SdfTask, evaluate_sdf, _SHAPE, _write_shape, _field_itself
        ),
        "occupancy": Kind(
            MeshInfo, sdf_field, _sampled_solid, OccupancyTask, _evaluate_solid, _SHAPE, _write_solid,
            OccupancyDistance,
        ),
    }
)  # fmt: skip
