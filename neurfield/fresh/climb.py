# SPDX-License-Identifier: Apache-2.0
"""From the nearest candidate to a better one by trials, where spectra mislead; no part of the published FreSh."""

from collections.abc import Callable

from neurfield.fresh.choose import Choice, Trial, best_of


def climb(
    choice: Choice, own: float | None, score: Callable[[float | None], float], may_begin: Callable[[int], bool]
) -> tuple[Trial, ...]:
    """Tries what the method has and the nearest candidate, then the neighbours of the better one, the nearer spectrum
    first; the first that is better (see best_of) is the next to go on from, until none is or there is no time.

    What the method has is tried first, so that it is kept where the nearest is hardly better; but last where it is no
    candidate, since that has no neighbours to go on to.

    Args:
        choice: of the spectra.
        own: what the method has; None, or no candidate: it is tried as None, and has no neighbours.
        score: of a candidate's value, or of the method as it is (None); the higher, the better.
        may_begin: takes the number of trials so far: whether there is time for one more.

    Returns:
        Trials in their order; none where there was no time for both of the first, without which they say little.
    """
    values, trials = choice.values, list[Trial]()

    def is_tried(value: float | None) -> bool:
        if all(trial.value != value for trial in trials):
            if not may_begin(len(trials)):
                return False
            trials.append(Trial(value, score(value)))
        return True

    nearest = values[choice.index]
    if not all(is_tried(value) for value in ((own, nearest) if own in values else (nearest, None))):
        return ()
    while (best := best_of(trials)).value is not None:
        place = values.index(best.value)
        beside = [i for i in (place - 1, place + 1) if 0 <= i < len(values)]
        beside.sort(key=lambda i: choice.distances[i])
        if not any(is_tried(values[i]) and best_of(trials) is not best for i in beside):
            break
    return tuple(trials)
