# SPDX-License-Identifier: Apache-2.0
"""FreSh: what the published definition leaves open, against the sweeps that bench_fresh has measured.

    python -m benchmarks.signals.bench_fresh_bins

For every number of bins (of a 128-point picture, whose half side is 64) and every rule for ties (0: the nearest; 1, 2:
the lowest frequency within so many standard errors) it counts the pictures whose choice among the sweep's values is
within 0.3 dB of the sweep's best. To pick the best setting by the same pictures that it is then measured on would say
nothing: it is picked by every second picture, and counted on the others, too. Trains nothing.
"""

import json
from collections.abc import Sequence

from benchmarks.harness import RESULTS
from benchmarks.signals import bench_fresh
from benchmarks.signals.bench_fresh import GOAL, MODELS, NETWORK
from benchmarks.signals.learning import save
from benchmarks.signals.pictures import PICTURES, picture
from neurfield import auto_frequency, fresh
from neurfield.training.signal_method import load_signal_method

BINS = (16, 24, 32, 48, 64)
ERRORS = (0, 1, 2)
SIDE = 128
PICKED_BY, COUNTED_ON = list(PICTURES)[::2], list(PICTURES)[1::2]


def distances(model: str, name: str, n_bins: int) -> fresh.Choice:
    """Of all values of the sweep."""
    signal, method = picture(name, SIDE), load_signal_method(model, "image", NETWORK)
    candidates, sampled = auto_frequency.signal_candidates(method, signal, values=list(map(float, MODELS[model])))
    return fresh.choose(sampled, candidates, n_bins)


def chosen(found: fresh.Choice, n_errors: int) -> float:
    nearest = min(range(len(found.values)), key=lambda i: found.distances[i])
    limit = found.distances[nearest] + n_errors * found.errors[nearest]
    return next(v for v, d in zip(found.values, found.distances, strict=True) if d <= limit)


def main() -> None:
    measured = json.loads((RESULTS / f"{bench_fresh.NAME}.json").read_text())
    psnr, rows = measured["results"]["psnr"], []
    for model in MODELS:
        for n_bins in BINS:
            found = {name: distances(model, name, n_bins) for name in PICTURES}
            for n_errors in ERRORS:
                values = {name: chosen(found[name], n_errors) for name in PICTURES}
                losses = {name: loss(psnr, model, name, value) for name, value in values.items()}
                counts = {"picked by": count(losses, PICKED_BY), "counted on": count(losses, COUNTED_ON)}
                rows.append({"model": model, "n_bins": n_bins, "n_errors": n_errors, **counts, "values": values})
                print(f"{model}, {n_bins} bins, ties within {n_errors}: {counts}", flush=True)
    protocol = (
        f"sweeps of {bench_fresh.NAME}.json ({measured['protocol']}); choices within {GOAL} dB of the best, of the "
        f"{len(PICKED_BY)} pictures {', '.join(PICKED_BY)} and of the {len(COUNTED_ON)} others"
    )
    save(f"{bench_fresh.NAME}_bins", "numbers of bins and rules for ties of the choice of frequencies", protocol, rows)


def loss(psnr: dict[str, float], model: str, name: str, value: float) -> float:
    """Of one training each: the other seeds of bench_fresh are not of every value."""
    found = {k: p for k, p in psnr.items() if k.startswith(f"{model}, {name}, ") and ", seed " not in k}
    best = max(p for k, p in found.items() if not k.endswith("None"))
    return best - psnr[f"{model}, {name}, {value}"]


def count(losses: dict[str, float], names: Sequence[str]) -> int:
    return sum(losses[name] <= GOAL for name in names)


if __name__ == "__main__":
    main()
