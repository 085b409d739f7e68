# SPDX-License-Identifier: Apache-2.0
"""Ray marching through an occupancy grid into packed samples (csrc/math/march.h)."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator
from neurfield.ops.occupancy import check_occupancy

# First guess of the samples per ray when no capacity is given; a second march follows when it was too low.
GUESSED_SAMPLES_PER_RAY = 64


class PackedSamples(NamedTuple):
    """Samples of many rays one after the other, in the order of the rays.

    Attributes:
        packed_info: int64 `[n_rays, 2]` start and count of each ray's samples.
        ray_indices: int64 `[n_samples]`.
        t_starts, t_ends: float32 `[n_samples]`; a sample sits at the start of its interval.
        counts: int64 `[3]` samples, rays that found no room in the capacity and have none, samples of all rays.
    """

    packed_info: Tensor
    ray_indices: Tensor
    t_starts: Tensor
    t_ends: Tensor
    counts: Tensor

    @property
    def n_dropped(self) -> int:
        """Rays that found no room; waits for the device."""
        return int(self.counts[1])

    def trimmed(self) -> "PackedSamples":
        """Without the rows behind the samples; waits for the device."""
        n = int(self.counts[0])
        return self._replace(ray_indices=self.ray_indices[:n], t_starts=self.t_starts[:n], t_ends=self.t_ends[:n])


@torch.no_grad()
def march(
    origins: Tensor,
    directions: Tensor,
    bitfield: Tensor,
    coarse: Tensor,
    *,
    step_scale: float = 1.0,
    cone_angle: float = 0.0,
    near: float = 0.0,
    far: float = math.inf,
    max_samples: int = 1024,
    capacity: int | None = None,
    padded: bool = False,
    seed: int = 0,
    step: int | None = None,
) -> PackedSamples:
    """Finds the steps of each ray that lie in occupied cells (Mueller et al. 2022, appendix E).

    Steps begin where the ray enters the grid's box or at `near`, whichever is later, plus a jitter of [0, 1) steps, and
    are `dt_min = step_scale * sqrt(3) / 1024` long for `cone_angle = 0`; else their length is `cone_angle * t` clamped
    to `[dt_min, sqrt(3)]`. Skipping empty space never leaves that lattice.

    Args:
        origins, directions: float32 `[n_rays, 3]` in unit space, unit directions. Rays with components that are not
            finite, or a direction of zero, have no samples.
        bitfield, coarse: of an occupancy grid, see neurfield.ops.occupancy.
        near, far: samples start at `t` in `[near, far)`.
        max_samples: per ray; further ones are cut off.
        capacity: samples in all. Rays whose samples would end beyond it are dropped whole and counted, so the leading
            rays are kept. None: as many as there are.
        padded: with a capacity: the tensors of samples have that many rows, zero behind the samples, so that nothing
            waits for the device.
        seed, step: name the jitter's random numbers; `step` None means no jitter.

    Returns:
        PackedSamples; not differentiable. The same for any number of threads.

    Raises:
        TypeError, ValueError: wrong dtype or shape, a setting out of range.
    """
    check_tensor("march", "origins", origins, ("n_rays", 3), (torch.float32,))
    check_tensor("march", "directions", directions, (origins.shape[0], 3), (torch.float32,), origins.device)
    check_occupancy("march", bitfield, coarse, origins.device)
    if not (step_scale > 0 and 0 <= cone_angle <= 1 and near >= 0 and max_samples >= 1):
        raise ValueError(
            "march: expected step_scale > 0, cone_angle in 0 ... 1, near >= 0, max_samples >= 1, "
            f"got {step_scale}, {cone_angle}, {near}, {max_samples}"
        )
    if capacity is not None and capacity < 0:
        raise ValueError(f"march: capacity must be at least 0, got {capacity}")
    if padded and capacity is None:
        raise ValueError("march: padded needs a capacity, got None")

    def attempt(room: int) -> PackedSamples:
        settings = (step_scale, cone_angle, near, far, max_samples, room, padded, step is not None, seed, step or 0)
        return PackedSamples(*_march(origins, directions, bitfield, coarse, *settings))

    if capacity is None:
        return with_room(attempt, origins.shape[0] * GUESSED_SAMPLES_PER_RAY)
    return attempt(capacity) if padded else attempt(capacity).trimmed()


def with_room(attempt: Callable[[int], PackedSamples], guess: int) -> PackedSamples:
    """All samples of an operator that takes the number of rows there is room for; again where a guess is too low."""
    found = attempt(guess)
    return (attempt(int(found.counts[2])) if found.n_dropped else found).trimmed()


@operator("march", devices=DEVICES)
def _march(
    origins: Tensor,
    directions: Tensor,
    bitfield: Tensor,
    coarse: Tensor,
    step_scale: float,
    cone_angle: float,
    near: float,
    far: float,
    max_samples: int,
    capacity: int,
    padded: bool,
    jitter: bool,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Buffers of the full capacity, filled from the front, and counts: samples, dropped rays, samples wanted."""
    lib = native(origins)
    outputs = empty_packed(origins, origins.shape[0], capacity)
    scratch = origins.new_empty(lib.march_scratch_bytes(origins.shape[0]), dtype=torch.uint8)
    lib.march(
        origins.contiguous(), directions.contiguous(), bitfield.contiguous(), coarse.contiguous(), step_scale,
        cone_angle, near, far, max_samples, jitter, seed, step, *outputs, padded, scratch,
    )  # fmt: skip
    return outputs


@_march.register_fake
def _(
    origins, directions, bitfield, coarse, step_scale, cone_angle, near, far, max_samples, capacity, padded, jitter,
    seed, step,
):  # fmt: skip
    return empty_packed(origins, origins.shape[0], capacity)


def empty_packed(like: Tensor, n_rays: int, capacity: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Memory for PackedSamples, of the dtype and on the device of `like`."""
    return (
        like.new_empty(n_rays, 2, dtype=torch.int64),
        like.new_empty(capacity, dtype=torch.int64),
        like.new_empty(capacity),
        like.new_empty(capacity),
        like.new_empty(3, dtype=torch.int64),
    )
