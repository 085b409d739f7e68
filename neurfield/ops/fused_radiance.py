# SPDX-License-Identifier: Apache-2.0
"""Fused training (csrc/cpu/fused_radiance.h, on the CPU) and rendering (csrc/ops/fused_render.h) of a radiance field.

A field of a grid encoding, a density MLP, spherical harmonics and a colour MLP is marched, evaluated, composited and
differentiated tile by tile in the caches of each core, several times faster than op by op and with the same numbers up
to the order of sums. On CUDA an image is one kernel, whose networks multiply float16 and sum in float32.

    fused = FusedField.of(field)                    # a RadianceField, if fused_reason(field) is None
    rgb, depth, median, acc = fused_render(fused, grid.bitfield, grid.coarse, origins, directions, FusedMarch(...))
    workspace = FusedWorkspace(fused, capacity=1 << 19)
    report = fused_gradients(workspace, ...)        # changes no parameter
    if report.is_finite: fused_table_adam(workspace, ...)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield._native import lib
from neurfield.ops._common import DEVICES, check_tensor, native, native_table, native_threads
from neurfield.ops._operator import operator
from neurfield.ops.fused_field import FusedField, FusedMarch
from neurfield.ops.half_copy import mark_half_copy_current
from neurfield.ops.occupancy import check_occupancy
from neurfield.ops.pixel import MAX_RAYS_PER_PIXEL

N_SLOTS: int = lib.fused_slots

# ---- rendering and density ----


class FusedImage(NamedTuple):
    """Per ray, over black; nothing here is differentiable."""

    rgb: Tensor  # [n_rays, 3]
    depth: Tensor  # [n_rays], sum of weight * t; divide by acc for the expected distance
    median_depth: Tensor  # [n_rays], t of the sample behind which less than half of the light comes; inf: none
    acc: Tensor  # [n_rays], opacity


@torch.no_grad()
def fused_render(
    field: FusedField,
    bitfield: Tensor,
    coarse: Tensor,
    origins: Tensor,
    directions: Tensor,
    march: FusedMarch,
    skip_weight: float = 0.0,
) -> FusedImage:
    """Marches, evaluates and composites rays; a ray ends once its transmittance is below `march.stop_transmittance`.

    Args:
        bitfield, coarse: of an occupancy grid, see neurfield.ops.occupancy.
        origins, directions: float32 `[n_rays, 3]` in unit space, unit directions. Neighbouring rays should be near each
            other: image order, best in blocks.
        skip_weight: the colour of samples of smaller weight is not evaluated and counts as black, an error of at most
            the sum of those weights.

    Raises:
        TypeError, ValueError: wrong dtype or shape.
    """
    _check_rays("fused_render", field.table.device, bitfield, coarse, origins, directions)
    return FusedImage(
        *_render(
            *field.tensors, origins, directions, bitfield, coarse, field.sizes, field.scales, march.values,
            list(march.jitter or ()), skip_weight,
        )
    )  # fmt: skip


@torch.no_grad()
def fused_density(field: FusedField, positions: Tensor) -> Tensor:
    """sigma `[n]` at positions float32 `[n, 3]` in unit space; not differentiable."""
    check_tensor("fused_density", "positions", positions, ("n", 3), (torch.float32,), field.table.device)
    return _density(*field.tensors, positions, field.sizes, field.scales)


def _check_rays(
    op: str, device: torch.device, bitfield: Tensor, coarse: Tensor, origins: Tensor, directions: Tensor
) -> None:
    check_occupancy(op, bitfield, coarse, device)
    check_tensor(op, "origins", origins, ("n_rays", 3), (torch.float32,), device)
    check_tensor(op, "directions", directions, (origins.shape[0], 3), (torch.float32,), device)


def _scratch(like: Tensor, sizes: Sequence[int], scales: Sequence[float]) -> Tensor:
    """uint8 `[n_threads, bytes]`; on CUDA one row for all."""
    lib = native(like)
    n_bytes = lib.fused_render_scratch_bytes(list(sizes), list(scales))
    return like.new_empty(1 if like.is_cuda else torch.get_num_threads(), n_bytes, dtype=torch.uint8)


@operator("fused_render", devices=DEVICES)
def _render(
    table: Tensor, density_params: Tensor, color_params: Tensor, origins: Tensor, directions: Tensor, bitfield: Tensor,
    coarse: Tensor, sizes: Sequence[int], scales: Sequence[float], march: Sequence[float], jitter: Sequence[int],
    skip_weight: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    lib = native(origins)
    outputs = empty_image(origins)
    lib.fused_render(
        list(sizes), list(scales), native_table(table), density_params.contiguous(), color_params.contiguous(),
        origins.contiguous(), directions.contiguous(), bitfield.contiguous(), coarse.contiguous(), list(march),
        list(jitter) or None, skip_weight, _scratch(origins, sizes, scales), *outputs,
    )  # fmt: skip
    return outputs


@_render.register_fake
def _(table, density_params, color_params, origins, *rest):
    return empty_image(origins)


def empty_image(origins: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The tensors of a FusedImage, not filled yet."""
    n = origins.shape[0]
    return origins.new_empty(n, 3), origins.new_empty(n), origins.new_empty(n), origins.new_empty(n)


@operator("fused_density", devices=DEVICES)
def _density(
    table: Tensor, density_params: Tensor, color_params: Tensor, positions: Tensor, sizes: Sequence[int],
    scales: Sequence[float],
) -> Tensor:  # fmt: skip
    lib = native(positions)
    sigma = positions.new_empty(positions.shape[0])
    lib.fused_density(
        list(sizes), list(scales), native_table(table), density_params.contiguous(), color_params.contiguous(),
        positions.contiguous(), _scratch(positions, sizes, scales), sigma,
    )  # fmt: skip
    return sigma


@_density.register_fake
def _(table, density_params, color_params, positions, sizes, scales):
    return positions.new_empty(positions.shape[0])


# ---- training ----


@dataclass(frozen=True)
class FusedLoss:
    """Mean over pixels and channels of the colour loss, plus weighted means over rays of the regularisers.

    `huber_alpha` None is L2; see neurfield.losses for the formulas.
    """

    huber_alpha: float | None = 0.1
    opacity_entropy: float = 0.0
    distortion: float = 0.0

    def values(self, n_pixels: int, n_rays: int) -> list[float]:
        delta = math.inf if self.huber_alpha is None else self.huber_alpha
        n = max(n_rays, 1)
        return [delta, 1 / (3 * max(n_pixels, 1)), self.opacity_entropy / n, self.distortion / n]


class FusedReport(NamedTuple):
    """What a step saw; all of it is known before any parameter changes."""

    loss: float
    squared_error: float  # mean over pixels and channels
    n_rays_used: int
    n_rays_dropped: int  # found no room in the workspace: count as rays without loss
    n_samples: int  # that a gradient was formed for
    n_evaluated: int  # with those found to lie behind a surface
    is_finite: bool  # loss and all gradients


class FusedWorkspace:
    """Memory of training steps: gradients of both networks, and of the encoding's output at every sample.

    Args:
        field: sizes; its parameters are read at every step.
        capacity: samples. Twice the expected number leaves room for uneven rays; memory beyond what is used is never
            touched. Rays beyond it are dropped and counted.
        max_samples: most samples per ray of the marches to come.

    Attributes:
        grad_density, grad_color: `[n_params]` of the networks, after fused_gradients.
    """

    def __init__(self, field: FusedField, capacity: int, max_samples: int = 1024):
        if not field.can_train:
            raise ValueError(f"FusedWorkspace: the fused step runs on the CPU, the field is on {field.table.device}")
        if capacity < N_SLOTS:
            raise ValueError(f"FusedWorkspace: capacity must be at least {N_SLOTS}, got {capacity}")
        self.field, self.max_samples = field, max_samples
        n_slot_values, n_bytes = lib.fused_workspace_sizes(field.sizes, field.scales, max_samples)
        levels, features = field.grid.n_levels, field.grid.n_features_per_level
        self.positions = torch.empty(3, capacity)
        self.grad_encoding = torch.empty(levels, capacity, features)
        self.slot_counts = torch.zeros(N_SLOTS, dtype=torch.int64)
        self.slot_gradients = torch.empty(N_SLOTS, n_slot_values)
        self.grad_density = torch.empty(field.density.n_params)
        self.grad_color = torch.empty(field.color.n_params)
        self._scratch_bytes = n_bytes
        self._scratch = torch.empty(0, dtype=torch.uint8)
        self._table_scratch = torch.empty(0)

    def sampled(self, n: int, generator: torch.Generator) -> Tensor:
        """Positions `[about n, 3]` of random samples of the last fused_gradients, in the unit cube of the field."""
        room = self.positions.shape[1] // N_SLOTS
        rows = [
            slot * room + torch.randint(0, count, (-(-n // N_SLOTS),), generator=generator)
            for slot, count in enumerate(self.slot_counts.tolist())
            if count
        ]
        return self.positions[:, torch.cat(rows)].T if rows else self.positions.new_empty(0, 3)

    def append(self, positions: Tensor, grad_encoding: Tensor) -> int:
        """Adds gradients at the encoding's output to those of the last fused_gradients, for the table.

        Args:
            positions: float32 `[n, 3]` in the unit cube of the field.
            grad_encoding: float32 `[n, n_levels * n_features_per_level]`.

        Returns:
            How many there was room for, the first ones of each of N_SLOTS equal parts.
        """
        n, (levels, _, features) = positions.shape[0], self.grad_encoding.shape
        check_tensor("append", "positions", positions, (n, 3), (torch.float32,))
        check_tensor("append", "grad_encoding", grad_encoding, (n, levels * features), (torch.float32,))
        by_level, by_axis = grad_encoding.view(n, levels, features).transpose(0, 1), positions.T
        room, added = self.positions.shape[1] // N_SLOTS, 0
        for slot, count in enumerate(self.slot_counts.tolist()):
            begin = n * slot // N_SLOTS
            taken = min(n * (slot + 1) // N_SLOTS - begin, room - count)
            rows = slice(slot * room + count, slot * room + count + taken)
            self.positions[:, rows] = by_axis[:, begin : begin + taken]
            self.grad_encoding[:, rows] = by_level[:, begin : begin + taken]
            self.slot_counts[slot] = count + taken
            added += taken
        return added

    def scratch(self) -> Tensor:
        """uint8 `[n_threads, bytes]`, kept between steps."""
        n_threads = torch.get_num_threads()
        if self._scratch.shape[0] < n_threads:
            self._scratch = torch.empty(n_threads, self._scratch_bytes, dtype=torch.uint8)
        return self._scratch

    def table_scratch(self) -> Tensor:
        """float32 `[n_threads, values of the largest level]`, zero between steps."""
        n_threads = torch.get_num_threads()
        if self._table_scratch.shape[0] < n_threads:
            largest = max(level.n_entries for level in self.field.grid.levels())
            self._table_scratch = torch.zeros(n_threads, largest * self.field.grid.n_features_per_level)
        return self._table_scratch


@torch.no_grad()
def fused_gradients(
    workspace: FusedWorkspace,
    bitfield: Tensor,
    coarse: Tensor,
    origins: Tensor,
    directions: Tensor,
    target: Tensor,
    background: Tensor,
    march: FusedMarch,
    loss: FusedLoss,
    samples_per_ray: float = 16.0,
    rays: FusedImage | None = None,
    distances: Tensor | None = None,
) -> FusedReport:
    """Loss and gradients of a batch of rays: networks into the workspace, the table's ready for what follows.

    Args:
        origins, directions: float32 `[n_rays, 3]` in unit space, unit directions.
        target: `[n_pixels, 3]`, colour over the background. A pixel is the mean of n_rays / n_pixels consecutive rays,
            a whole number up to MAX_RAYS_PER_PIXEL.
        background: `[n_pixels, 3]`, colour behind each pixel.
        samples_per_ray: expected; of the step before, say. Bad guesses cost time, not exactness.
        rays: receives what was rendered, rgb over the background (median_depth is not written).
        distances: float32 `[n_rays, 2]`, of what each ray hits, and the weight of its depth error (losses.depth) in the
            loss: 0 where the distance is not known, else both are above 0.

    Returns:
        FusedReport. No parameter is changed, the same numbers come out for any number of threads.

    Raises:
        TypeError, ValueError: wrong dtype, shape or size.
    """
    _check_rays("fused_gradients", workspace.field.table.device, bitfield, coarse, origins, directions)
    check_tensor("fused_gradients", "target", target, ("n_pixels", 3), (torch.float32,), origins.device)
    n, n_pixels = origins.shape[0], target.shape[0]
    check_tensor("fused_gradients", "background", background, (n_pixels, 3), (torch.float32,), origins.device)
    if distances is not None:
        check_tensor("fused_gradients", "distances", distances, (n, 2), (torch.float32,), origins.device)
    if n % max(n_pixels, 1) or not n_pixels <= n <= MAX_RAYS_PER_PIXEL * n_pixels:
        raise ValueError(
            f"fused_gradients: the number of rays must be 1 ... {MAX_RAYS_PER_PIXEL} times that of the targets, "
            f"got {n} and {n_pixels}"
        )
    if march.max_samples > workspace.max_samples:
        raise ValueError(
            f"fused_gradients: the workspace is for at most {workspace.max_samples} samples per ray, "
            f"got max_samples {march.max_samples}"
        )
    field, w = workspace.field, workspace
    outputs = (rays.rgb, rays.depth, rays.acc) if rays else (None, None, None)
    loss_sum, squared, used, n_samples, n_evaluated, finite = _gradients(
        *field.tensors, origins, directions, bitfield, coarse, target, background, distances, field.sizes, field.scales,
        march.values, list(march.jitter or ()), loss.values(n_pixels, n), samples_per_ray, w.positions,
        w.grad_encoding, w.slot_counts, w.grad_density, w.grad_color, w.slot_gradients, w.scratch(), *outputs,
    ).tolist()  # fmt: skip
    mean = squared / (3 * max(n_pixels, 1))
    return FusedReport(loss_sum, mean, int(used), n - int(used), int(n_samples), int(n_evaluated), bool(finite))


_MUTATED = ("positions", "grad_encoding", "slot_counts", "grad_density", "grad_color", "slot_gradients", "scratch")


@operator("fused_gradients", mutates=(*_MUTATED, "rgb", "depth", "acc"), devices=("cpu",))
def _gradients(
    table: Tensor, density_params: Tensor, color_params: Tensor, origins: Tensor, directions: Tensor, bitfield: Tensor,
    coarse: Tensor, target: Tensor, background: Tensor, distances: Tensor | None, sizes: Sequence[int],
    scales: Sequence[float],
    march: Sequence[float], jitter: Sequence[int], loss: Sequence[float], samples_per_ray: float, positions: Tensor,
    grad_encoding: Tensor, slot_counts: Tensor, grad_density: Tensor, grad_color: Tensor, slot_gradients: Tensor,
    scratch: Tensor, rgb: Tensor | None, depth: Tensor | None, acc: Tensor | None,
) -> Tensor:  # fmt: skip
    native_threads()
    report = lib.fused_gradients(
        list(sizes), list(scales), native_table(table), density_params.contiguous(), color_params.contiguous(),
        origins.contiguous(), directions.contiguous(), bitfield.contiguous(), coarse.contiguous(), list(march),
        list(jitter) or None, target.contiguous(), background.contiguous(),
        None if distances is None else distances.contiguous(), list(loss), samples_per_ray, positions,
        grad_encoding, slot_counts, grad_density, grad_color, slot_gradients, scratch, rgb, depth, acc,
    )  # fmt: skip
    return torch.tensor(report, dtype=torch.float64)


@_gradients.register_fake
def _(table, *rest):
    return table.new_empty(6, dtype=torch.float64)


@torch.no_grad()
def fused_table_gradient(workspace: FusedWorkspace) -> Tensor:
    """Gradient of the whole table `[grid.n_params]` of the last fused_gradients: for tests and other optimisers."""
    field, w = workspace.field, workspace
    return _table_gradient(w.positions, w.grad_encoding, w.slot_counts, field.sizes, field.scales, field.grid.n_params)


@operator("fused_table_gradient", devices=("cpu",))
def _table_gradient(
    positions: Tensor, grad_encoding: Tensor, slot_counts: Tensor, sizes: Sequence[int], scales: Sequence[float],
    n_params: int,
) -> Tensor:  # fmt: skip
    native_threads()
    grad = positions.new_empty(n_params)
    lib.fused_table_gradient(list(sizes), list(scales), positions, grad_encoding, slot_counts, grad)
    return grad


@_table_gradient.register_fake
def _(positions, grad_encoding, slot_counts, sizes, scales, n_params):
    return positions.new_empty(n_params)


@torch.no_grad()
def fused_table_adam(
    workspace: FusedWorkspace,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    steps: Tensor | None,
    *,
    step: int,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.99,
    epsilon: float = 1e-15,
) -> None:
    """Adam step of the table with the gradient of the last fused_gradients; values without gradient are skipped.

    The gradient of a level is formed and used up in a buffer that stays in the cache. Equal to ops.adam_step with
    `skip_zero` on fused_table_gradient. Changes the field's `table` and `half_table` and the state in place.

    Args:
        exp_avg, exp_avg_sq: float32 moments `[grid.n_params]`.
        steps: int16 `[grid.n_params]` updates of each value, or None: all had `step` - 1.
        step: number of this step, from 1.
    """
    field = workspace.field
    n = field.grid.n_params
    for name, state in (("exp_avg", exp_avg), ("exp_avg_sq", exp_avg_sq)):
        check_tensor("fused_table_adam", name, state, (n,), (torch.float32,))
    if steps is not None:
        check_tensor("fused_table_adam", "steps", steps, (n,), (torch.int16,))
    half_bits = None if field.half_table is None else field.half_table.view(torch.int16)
    _table_adam(
        workspace.positions, workspace.grad_encoding, workspace.slot_counts, field.sizes, field.scales,
        [learning_rate, beta1, beta2, epsilon], step, field.table.detach(), exp_avg, exp_avg_sq, steps, half_bits,
        workspace.table_scratch(),
    )  # fmt: skip
    mark_half_copy_current(field.table)


@operator(
    "fused_table_adam",
    mutates=("params", "exp_avg", "exp_avg_sq", "steps", "half_bits", "grad_scratch"),
    devices=("cpu",),
)
def _table_adam(
    positions: Tensor, grad_encoding: Tensor, slot_counts: Tensor, sizes: Sequence[int], scales: Sequence[float],
    adam: Sequence[float], step: int, params: Tensor, exp_avg: Tensor, exp_avg_sq: Tensor, steps: Tensor | None,
    half_bits: Tensor | None, grad_scratch: Tensor,
) -> None:  # fmt: skip
    native_threads()
    lib.fused_table_adam(
        list(sizes), list(scales), positions, grad_encoding, slot_counts, list(adam), step, params, exp_avg, exp_avg_sq,
        steps, half_bits, grad_scratch,
    )  # fmt: skip


@_table_adam.register_fake
def _(*args) -> None:
    return None
