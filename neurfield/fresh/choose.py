# SPDX-License-Identifier: Apache-2.0
"""How far the spectra of the candidates are from the signal's, and the lowest frequency that is as near as any."""

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.fresh.candidates import Candidates, Model
from neurfield.fresh.spectrum import resize, spectrum, wasserstein

MAX_SIDE = {1: 65536, 2: 1024, 3: 256}  # of the signal's transform, by dimensions
OVERSAMPLING = 2.5  # points of the models' grid per bin: 2 would fold what lies just beyond the last bin into it
FIRST_REPEATS = 3
TIE = 1e-6  # bins: less is rounding


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        key, values: of the candidates.
        index: which was chosen.
        distances, errors: per candidate the mean distance in bins, and its standard error.
        repeats: how many initialisations each has had.
        target: spectrum of the signal `[n_bins]`. spectra: mean spectra of the candidates `[n_candidates, n_bins]`.
        seconds: what the choice took.
    """

    key: str
    values: tuple[float, ...]
    index: int
    distances: tuple[float, ...]
    errors: tuple[float, ...]
    repeats: tuple[int, ...]
    target: Tensor
    spectra: Tensor
    seconds: float

    @property
    def value(self) -> float:
        return self.values[self.index]

    def report(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        columns = zip(self.values, self.distances, self.errors, self.repeats, strict=True)
        names = ("value", "distance", "error", "repeats")
        return {
            "key": self.key,
            "value": self.value,
            "seconds": self.seconds,
            "candidates": [dict(zip(names, row, strict=True)) for row in columns],
            "target": self.target.tolist(),
            "spectra": self.spectra.tolist(),
        }


def choose(
    signal: Tensor, candidates: Candidates, n_bins: int = 64, repeats: int = 10, side: int | None = None, seed: int = 0
) -> Choice:
    """Chooses among models by their spectra before training.

    Every candidate is evaluated with `repeats` initialisations on a grid that just holds the bins, except that those
    which are clearly farther than the best one (beyond twice both standard errors) stop after three. Of the candidates
    within one standard error of the nearest the lowest frequency is taken.

    Args:
        signal: floating point `[n_channels, ...]` of 1 ... 3 dimensions; only the shape of its spectrum counts.
        candidates: what is compared, low to high frequency.
        n_bins: L1 frequencies that are compared, from 1 cycle per side on; Kania et al. recommend 64 for SIREN, 128 for
            others. Smaller signals have as many as half their shortest side.
        repeats: initialisations, at least 3.
        side: points per dimension at which models are evaluated, by default 2.5 n_bins; the cost is `side^n_dims`
            evaluations per candidate and initialisation.
        seed: of the first initialisation.

    Raises:
        UserError: sizes out of range, a constant or non-finite signal.
    """
    n_dims = signal.dim() - 1
    if n_dims not in MAX_SIDE or min(signal.shape) < 1 or min(signal.shape[1:]) < 4:
        raise UserError(
            f"fresh: expected a signal [n_channels, ...] of 1 ... 3 dimensions of at least 4 points, "
            f"got {list(signal.shape)}"
        )
    if repeats < FIRST_REPEATS:
        raise UserError(f"fresh: repeats must be at least {FIRST_REPEATS}, got {repeats}")
    start = time.perf_counter()
    signal_side = min(MAX_SIDE[n_dims], *signal.shape[1:])
    n_bins = min(n_bins, signal_side // 2)
    target = spectrum(resize(signal.float(), signal_side), n_bins)
    if not target.sum() > 0:  # NaN, too
        raise UserError("fresh: the signal has no spectrum: it is constant, or not finite")
    side = math.ceil(OVERSAMPLING * n_bins) if side is None else side
    at = _grid(side, n_dims)
    trials: list[list[Tensor]] = [[] for _ in candidates.values]
    for repeat in range(repeats):
        for i in range(len(trials)) if repeat < FIRST_REPEATS else _contenders(trials, target):
            model = candidates.build(candidates.values[i], seed + repeat)
            trials[i].append(_spectrum_of(model, at, side, n_bins))
    means, errors = _distances(trials, target)
    nearest = int(means.argmin())
    index = int((means <= means[nearest] + errors[nearest] + TIE).nonzero()[0])
    return Choice(
        candidates.key,
        candidates.values,
        index,
        tuple(means.tolist()),
        tuple(errors.tolist()),
        tuple(len(spectra) for spectra in trials),
        target,
        torch.stack([torch.stack(spectra).mean(0) for spectra in trials]),
        time.perf_counter() - start,
    )


def _grid(side: int, n_dims: int) -> Tensor:
    """Centres of the cells `[side^n_dims, n_dims]`, the last dimension fastest."""
    axis = (torch.arange(side) + 0.5) / side
    return torch.stack(torch.meshgrid(*[axis] * n_dims, indexing="ij"), dim=-1).view(-1, n_dims)


@torch.no_grad()
def _spectrum_of(model: Model, at: Tensor, side: int, n_bins: int) -> Tensor:
    """Models see x first, which is the last dimension of an array."""
    output = model(at.flip(1))
    return spectrum(output.t().reshape(-1, *[side] * at.shape[1]), n_bins)


def _distances(trials: list[list[Tensor]], target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance and its standard error per candidate."""
    distances = [torch.tensor([wasserstein(s, target) for s in spectra], dtype=torch.float64) for spectra in trials]
    means = torch.stack([d.mean() for d in distances])
    return means, torch.stack([d.std() / len(d) ** 0.5 for d in distances])


def _contenders(trials: list[list[Tensor]], target: Tensor) -> list[int]:
    means, errors = _distances(trials, target)
    nearest = means.argmin()
    return ((means - 2 * errors) <= means[nearest] + 2 * errors[nearest]).nonzero().flatten().tolist()
