# SPDX-License-Identifier: Apache-2.0
"""How far the spectra of the candidates are from the signal's, and the lowest frequency that is as near as any."""

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.fresh.candidates import Candidates, Model
from neurfield.fresh.spectrum import resize, spectrum, wasserstein
from neurfield.progress import Progress, silent

# of the transforms, by dimensions: what bounds the cost
MAX_SIDE = {1: 65536, 2: 1024, 3: 128}
MAX_BINS = {1: 1024, 2: 512, 3: 32}
FULL_SIDE = 256  # points a side that the bins of the candidates are meant for
CHUNK = 1 << 17  # positions per call of a model
FIRST_REPEATS = 3
TIE = 1e-6  # bins: less is rounding
WORTH = 0.3  # dB of a trial: less is chance, as the standard deviation of one training is 0.2 to 0.3 dB


class Trial(NamedTuple):
    """A short training.

    Attributes:
        value: of the parameter; None: what the method has, where that is no candidate.
        psnr: in dB, over samples that it has not seen; -inf where it gave no numbers.
    """

    value: float | None
    psnr: float


def best_of(trials: Sequence[Trial]) -> Trial:
    """The last that was better than the best before it by more than WORTH."""
    best = trials[0]
    for trial in trials[1:]:
        best = trial if trial.psnr > best.psnr + WORTH else best
    return best


@dataclass(frozen=True)
class Choice:
    """What was found.

    Attributes:
        key, values: of the candidates.
        index: which is nearest by its spectrum.
        distances, errors: per candidate the mean distance in bins, and its standard error.
        repeats: how many initialisations each has had.
        left_out: values whose frequencies the signal's samples cannot show.
        flat: values whose untrained models have no spectrum, being constant or not finite; not in `values` either.
        target: spectrum of the signal `[n_bins]`. spectra: mean spectra of the candidates `[n_candidates, n_bins]`.
        seconds: what the choice took.
        trials: short trainings that decided, in their order; none: the spectra did.
    """

    key: str
    values: tuple[float, ...]
    index: int
    distances: tuple[float, ...]
    errors: tuple[float, ...]
    repeats: tuple[int, ...]
    left_out: tuple[float, ...]
    flat: tuple[float, ...]
    target: Tensor
    spectra: Tensor
    seconds: float
    trials: tuple[Trial, ...] = ()

    @property
    def value(self) -> float | None:
        """What is chosen: of the best trial, else the nearest; None: what the method has."""
        return best_of(self.trials).value if self.trials else self.values[self.index]

    def report(self) -> dict[str, Any]:
        """Everything as plain numbers, for JSON."""
        columns = zip(self.values, self.distances, self.errors, self.repeats, strict=True)
        names = ("value", "distance", "error", "repeats")
        return {
            "key": self.key,
            "value": self.value,
            "nearest": self.values[self.index],
            "trials": [{"value": t.value, "psnr": t.psnr if math.isfinite(t.psnr) else None} for t in self.trials],
            "seconds": self.seconds,
            "left_out": list(self.left_out),
            "flat": list(self.flat),
            "candidates": [dict(zip(names, row, strict=True)) for row in columns],
            "target": self.target.tolist(),
            "spectra": self.spectra.tolist(),
        }


def choose(
    signal: Tensor,
    candidates: Candidates,
    n_bins: int | None = None,
    repeats: int = 10,
    side: int | None = None,
    seed: int = 0,
    progress: Progress = silent,
    max_seconds: float = math.inf,
) -> Choice:
    """Chooses among models by their spectra before training.

    Every candidate is evaluated with `repeats` initialisations, except that those which are clearly farther than the
    best one (beyond twice both standard errors) stop after three, and all when one is left. Of the candidates within
    one standard error of the nearest the lowest frequency is taken. Candidates with an initialisation that is constant
    or not finite are left out.

    A candidate is sampled so finely that nothing of it folds back into the compared bins: a frequency f is seen at
    |side - f| when there are fewer than 2 f points a side, so `side` exceeds the highest frequency of the candidate by
    the number of bins. Candidates with frequencies above the number of the signal's samples are left out.

    Args:
        signal: floating point `[n_channels, ...]` of 1 ... 3 dimensions; only the shape of its spectrum counts.
        candidates: what is compared, low to high frequency.
        n_bins: L1 frequencies that are compared, from 1 cycle per side on; default: those of the candidates, and of
            signals of less than 256 points a side as many in proportion. At most half the shortest side; three
            dimensions at most 32.
        repeats: initialisations, at least 3.
        side: points per dimension at which models are evaluated, in place of the rule above; the cost is `side^n_dims`
            evaluations per candidate and initialisation.
        seed: of the first initialisation.
        progress: takes the finished part, 0 ... 1.
        max_seconds: after three initialisations, none is begun later than this.

    Raises:
        UserError: sizes out of range; a constant or non-finite signal, or no candidate that is neither.
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
    if n_bins is None:
        n_bins = max(candidates.n_bins * min(signal_side, FULL_SIDE) // FULL_SIDE, 1)
    n_bins = min(n_bins, signal_side // 2, MAX_BINS[n_dims])
    target = spectrum(resize(signal.float(), signal_side), n_bins)
    if not target.sum() > 0:  # NaN, too
        raise UserError("fresh: the signal has no spectrum: it is constant, or not finite")
    tried = _fitting(candidates, signal_side, n_bins)
    values = tuple(value for value, _ in tried)
    sides = [model_side(highest, n_bins) if side is None else side for _, highest in tried]
    trials: list[list[Tensor]] = [[] for _ in values]

    def evaluate(due: Sequence[int], first: int, n: int) -> None:
        for place, i in enumerate(due):
            models = (candidates.build(values[i], (seed + k) % (1 << 63)) for k in range(first, first + n))
            trials[i] += _spectra_of(models, sides[i], n_dims, n_bins)
            progress((first + n * place / len(due)) / repeats)

    evaluate(range(len(values)), 0, FIRST_REPEATS)
    for repeat in range(FIRST_REPEATS, repeats):
        due = _contenders(*_distances(trials, target))
        if len(due) <= 1 or time.perf_counter() - start >= max_seconds:
            break
        evaluate(due, repeat, 1)
    means, errors = _distances(trials, target)
    ranked = means.isfinite().nonzero().flatten().tolist()
    if not ranked:
        raise UserError(
            f"fresh: no untrained model has a spectrum, whatever {candidates.key} is ({values[0]:g} ... "
            f"{values[-1]:g}): all are constant or not finite; give other initial values"
        )
    means, errors = means[ranked], errors[ranked]
    nearest = int(means.argmin())
    index = int((means <= means[nearest] + errors[nearest] + TIE).nonzero()[0])
    return Choice(
        candidates.key,
        tuple(values[i] for i in ranked),
        index,
        tuple(means.tolist()),
        tuple(errors.tolist()),
        tuple(len(trials[i]) for i in ranked),
        tuple(v for v in candidates.values if v not in values),
        tuple(v for i, v in enumerate(values) if i not in ranked),
        target,
        torch.stack([torch.stack(trials[i]).mean(0) for i in ranked]),
        time.perf_counter() - start,
    )


def model_side(highest: float, n_bins: int) -> int:
    """Points a side at which frequencies up to `highest` do not fold into the bins, and which hold these."""
    return max(2 * n_bins, n_bins + math.ceil(highest))


def _fitting(candidates: Candidates, signal_side: int, n_bins: int) -> list[tuple[float, float]]:
    """Values, and their highest frequencies, that so many samples a side can show; at least the lowest."""
    if candidates.highest is None:
        return [(value, signal_side - n_bins) for value in candidates.values]
    known = [(value, candidates.highest(value)) for value in candidates.values]
    limit = max(signal_side, min(highest for _, highest in known))
    return [(value, highest) for value, highest in known if highest <= limit]


@torch.no_grad()
def _spectra_of(models: Iterable[Model], side: int, n_dims: int, n_bins: int) -> list[Tensor]:
    """Of models on the centres of `side^n_dims` cells. Models see x first, which is the last dimension of an array."""
    axes = torch.meshgrid(*[(torch.arange(side) + 0.5) / side] * n_dims, indexing="ij")
    chunks = torch.stack(axes[::-1], dim=-1).view(-1, n_dims).split(CHUNK)
    shape = (-1, *[side] * n_dims)
    return [spectrum(torch.cat([model(at) for at in chunks]).t().reshape(shape), n_bins) for model in models]


def _distances(trials: list[list[Tensor]], target: Tensor) -> tuple[Tensor, Tensor]:
    """Mean distance and its standard error per candidate; infinite where an initialisation has no spectrum, since the
    distance of zeros says nothing."""
    distances = [torch.tensor([wasserstein(s, target) for s in spectra], dtype=torch.float64) for spectra in trials]
    means = torch.stack([d.mean() for d in distances])
    flat = torch.tensor([any(not s.any() for s in spectra) for spectra in trials])
    return means.masked_fill(flat, math.inf), torch.stack([d.std() / len(d) ** 0.5 for d in distances])


def _contenders(means: Tensor, errors: Tensor) -> list[int]:
    nearest = means.argmin()
    near = (means - 2 * errors) <= means[nearest] + 2 * errors[nearest]
    return (near & means.isfinite()).nonzero().flatten().tolist()
