# SPDX-License-Identifier: Apache-2.0
"""Spectra of signals on a square grid and the distance between two of them (Kania et al. 2025, section 3.2).

S[k] = sum over channels and over f_1 + ... + f_d = k, f >= 0, of |FFT|, for k = 1 ... n, divided by its sum: the
content by L1 frequency in cycles per side, without the mean. Frequencies of mixed sign are left out, as in the
released code with its usual crop of n bins to at most half the side.
"""

import torch
from torch import Tensor
from torch.nn import functional

from neurfield.errors import UserError


def resize(signal: Tensor, side: int) -> Tensor:
    """A signal `[n_channels, ...]` of 1 ... 3 dimensions on `side` points per dimension.

    It is low-pass filtered where that is fewer: frequencies beyond the new grid must not fold into the spectrum.
    """
    n_dims = signal.dim() - 1
    if all(n == side for n in signal.shape[1:]):
        return signal
    if n_dims == 2:
        return functional.interpolate(signal[None], (side, side), mode="bilinear", antialias=True)[0]
    if n_dims not in (1, 3):
        raise UserError(f"fresh: expected a signal [n_channels, ...] of 1 ... 3 dimensions, got {list(signal.shape)}")
    small = [min(n, side) for n in signal.shape[1:]]
    if n_dims == 1:
        return functional.interpolate(functional.adaptive_avg_pool1d(signal[None], small[0]), side, mode="linear")[0]
    pooled = functional.adaptive_avg_pool3d(signal[None], (small[0], small[1], small[2]))
    return functional.interpolate(pooled, (side,) * 3, mode="trilinear")[0]


def spectrum(signal: Tensor, n_bins: int) -> Tensor:
    """Normalised spectrum `[n_bins]`, float64, of a signal `[n_channels, side, ...]` on a grid of equal sides.

    A signal that is constant or not finite gives zeros.

    Raises:
        UserError: unequal sides, or fewer than 2 n_bins points per side.
    """
    sides = set(signal.shape[1:])
    side = signal.shape[1] if signal.dim() > 1 else 0
    if len(sides) != 1 or side < 2 * n_bins or n_bins < 1:
        raise UserError(f"fresh: expected equal sides of at least 2 * {n_bins} points, got {list(signal.shape)}")
    n_dims = signal.dim() - 1
    # axis by axis, each cut to the compared frequencies before the next: the later transforms are of few lines
    part = torch.fft.rfft(signal.double(), dim=n_dims).narrow(n_dims, 0, n_bins + 1)
    for axis in range(1, n_dims):
        part = torch.fft.fft(part, dim=axis).narrow(axis, 0, n_bins + 1)
    corner = part.abs().sum(0)
    index = torch.zeros((), dtype=torch.int64)
    for axis in range(n_dims):
        index = index + torch.arange(n_bins + 1).view(*(-1 if a == axis else 1 for a in range(n_dims)))
    sums = torch.zeros(n_dims * n_bins + 1, dtype=torch.float64).index_add_(0, index.flatten(), corner.flatten())
    kept = sums[1 : n_bins + 1]
    # what is left of a constant by rounding is no spectrum; of NaN and infinity neither is greater
    return kept / kept.sum() if kept.sum() > 1e-9 * sums[0] else torch.zeros_like(kept)


def wasserstein(p: Tensor, q: Tensor) -> float:
    """1-Wasserstein distance of two spectra, in bins: sum over k of |CDF_p[k] - CDF_q[k]|."""
    return float((p.cumsum(0) - q.cumsum(0)).abs().sum())
