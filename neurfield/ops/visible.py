# SPDX-License-Identifier: Apache-2.0
"""The samples in front of the place where their ray becomes opaque, packed anew (csrc/math/visible.h)."""

import torch
from torch import Tensor

from neurfield.ops._common import DEVICES, check_tensor, native
from neurfield.ops._operator import operator
from neurfield.ops.march import PackedSamples, empty_packed


@torch.no_grad()
def visible_samples(
    samples: PackedSamples, sigmas: Tensor, stop_transmittance: float, capacity: int | None = None
) -> PackedSamples:
    """Leaves out of each ray what lies behind its last sample that has a weight, as ops.composite has it.

    Those are the samples behind the one that takes the transmittance below `stop_transmittance`, and samples of density
    0 with nothing behind them. A density that is NaN has a weight, and so has all that follows it: a step must notice.

    Args:
        samples: float32, of some rays, perhaps padded, see ops.march. `ray_indices` are not read.
        sigmas: float32 `[n_samples]`, density at each of them, at least 0; what it is in no ray does not matter.
        stop_transmittance: 0 (never opaque) or a transmittance below 1.
        capacity: rows of the result, zero behind its samples. Rays whose samples would end beyond it have none, as in
            ops.march, and nothing waits for the device. None: as many rows as there are samples.

    Returns:
        PackedSamples; not differentiable. `counts` are samples, rays that found no room here or had none before, and
        the samples of all rays before any was left out. The same for any number of threads, and on every device.

    Raises:
        TypeError, ValueError: wrong dtype, shape or device, a setting out of range; a range outside the samples. On
            CUDA, where finding out would wait for the device, such a ray has no samples instead.
    """
    op, floats, device = "visible_samples", (torch.float32,), sigmas.device
    check_tensor(op, "sigmas", sigmas, ("n_samples",), floats)
    n = sigmas.shape[0]
    check_tensor(op, "t_starts", samples.t_starts, (n,), floats, device)
    check_tensor(op, "t_ends", samples.t_ends, (n,), floats, device)
    check_tensor(op, "packed_info", samples.packed_info, ("n_rays", 2), (torch.int64,), device)
    check_tensor(op, "counts", samples.counts, (3,), (torch.int64,), device)
    if not 0 <= stop_transmittance < 1:
        raise ValueError(f"visible_samples: stop_transmittance must be in [0, 1), got {stop_transmittance}")
    if capacity is not None and capacity < 0:
        raise ValueError(f"visible_samples: capacity must be at least 0, got {capacity}")
    found = PackedSamples(
        *_visible(
            sigmas, samples.t_starts, samples.t_ends, samples.packed_info, samples.counts, stop_transmittance,
            n if capacity is None else capacity,
        )
    )  # fmt: skip
    return found.trimmed() if capacity is None else found


@operator("visible_samples", devices=DEVICES)
def _visible(
    sigmas: Tensor,
    t_starts: Tensor,
    t_ends: Tensor,
    packed_info: Tensor,
    counts: Tensor,
    stop_transmittance: float,
    capacity: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    lib = native(sigmas)
    outputs = empty_packed(sigmas, packed_info.shape[0], capacity)
    scratch = sigmas.new_empty(lib.visible_scratch_bytes(packed_info.shape[0]), dtype=torch.uint8)
    inputs = (t.contiguous() for t in (sigmas, t_starts, t_ends, packed_info, counts))
    lib.visible_samples(*inputs, stop_transmittance, *outputs, scratch)
    return outputs


@_visible.register_fake
def _(sigmas, t_starts, t_ends, packed_info, counts, stop_transmittance, capacity):
    return empty_packed(sigmas, packed_info.shape[0], capacity)
