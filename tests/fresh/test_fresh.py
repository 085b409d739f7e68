# SPDX-License-Identifier: Apache-2.0
import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor

from neurfield import encodings, fresh, networks
from neurfield.errors import UserError
from neurfield.fresh.candidates import OF_ACTIVATIONS, OF_ENCODINGS, Candidates, Parameter
from neurfield.fresh.choose import _spectra_of, model_side
from tests.cases import uniform

NETWORK = {"otype": "MLP", "n_neurons": 64, "n_hidden_layers": 2}
POINTS = {"otype": "Identity", "scale": 2, "offset": -1}


def wave(side: int, *cycles: float) -> Tensor:
    """One channel of cos(2 pi (cycles . position)) on the cells of a unit cube."""
    axis = (torch.arange(side, dtype=torch.float64) + 0.5) / side
    at = torch.meshgrid(*[axis] * len(cycles), indexing="ij")
    return torch.cos(2 * math.pi * sum(c * a for c, a in zip(cycles, at, strict=True)))[None]


@pytest.mark.parametrize("cycles", [(5,), (3, 4), (0, 7), (2, 1, 4)])
def test_a_wave_has_one_line(cycles: tuple[int, ...]) -> None:
    """Its L1 frequency, whatever the mean is."""
    s = fresh.spectrum(wave(32, *cycles) + 3, 16)
    expected = torch.zeros(16, dtype=torch.float64)
    expected[sum(cycles) - 1] = 1
    torch.testing.assert_close(s, expected, atol=1e-12, rtol=0)


def test_spectrum_matches_its_definition() -> None:
    """Sums of the full transform over f_x + f_y = k, by hand."""
    signal = uniform(2, 20, 20)
    full = torch.fft.fftn(signal.double(), dim=(1, 2)).abs().sum(0)
    sums = torch.tensor([sum(full[i, k - i] for i in range(k + 1)) for k in range(1, 11)])
    torch.testing.assert_close(fresh.spectrum(signal, 10), sums / sums.sum(), atol=1e-12, rtol=0)
    torch.testing.assert_close(fresh.spectrum(5 * signal - 2, 10), sums / sums.sum(), atol=1e-6, rtol=0)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_not_finite_has_no_spectrum(value: float) -> None:
    for place in ((0, 0), (3, 5)):
        signal = uniform(1, 16, 16)
        signal[0][place] = value
        assert not fresh.spectrum(signal, 8).any()


def test_distance_counts_bins() -> None:
    lines = torch.eye(8, dtype=torch.float64)
    assert fresh.wasserstein(lines[2], lines[2]) == 0
    assert fresh.wasserstein(lines[1], lines[6]) == 5
    assert fresh.wasserstein((lines[0] + lines[4]) / 2, lines[2]) == pytest.approx(2)


@pytest.mark.parametrize("n_dims", [1, 2, 3])
def test_resizing_filters_what_the_grid_cannot_hold(n_dims: int) -> None:
    high = fresh.resize(wave(64, *[27] + [0] * (n_dims - 1)), 16)
    assert high.shape == (1, *[16] * n_dims)
    assert float(high.abs().max()) < 0.35 < 0.7 < float(fresh.resize(wave(64, *[2] * n_dims), 16).abs().max())


def test_initialisations_end_with_the_seconds() -> None:
    """Of models that no number of them tells apart."""
    candidates = fresh.sweep({"otype": "GaussianFourier"}, NETWORK, 2, 1, "encoding.sigma", (3.0, 3.001))
    assert fresh.choose(wave(32, 3, 4), candidates).repeats == (10, 10)
    assert fresh.choose(wave(32, 3, 4), candidates, max_seconds=0).repeats == (3, 3)


def test_choice_finds_the_model_that_made_the_signal() -> None:
    """The signal is the output of one of the candidates with another seed."""
    candidates = fresh.sweep({"otype": "GaussianFourier", "n_frequencies": 64}, NETWORK, 2, 3)
    assert candidates.key == "encoding.sigma" and candidates.values == tuple(range(1, 21))
    encoding, network = candidates.blocks(8)
    signal_encoding = encodings.create(2, encoding | {"seed": 99})
    net = networks.create(signal_encoding.n_output_dims, 3, network, 99)
    axis = (torch.arange(96) + 0.5) / 96
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    with torch.no_grad():
        signal = net(signal_encoding(torch.stack([x, y], -1).view(-1, 2))).t().reshape(3, 96, 96)
    choice = fresh.choose(signal, candidates, n_bins=32)
    assert 6 <= choice.value <= 10
    assert choice.distances[0] > 4 * choice.distances[choice.index] and choice.distances[-1] > choice.distances[7]
    assert choice.repeats[0] == choice.repeats[-1] == 3 and 3 <= choice.repeats[choice.index] <= 10
    again = fresh.choose(signal, candidates, n_bins=32)
    assert again.distances == choice.distances
    report = json.loads(json.dumps(choice.report()))
    assert report["value"] == choice.value and len(report["candidates"]) == 20 and len(report["spectra"][0]) == 32
    picture = fresh.draw(choice)
    assert picture.size == (1120, 400) and len(picture.getcolors()) > 4


def by_definition(model: fresh.Model, side: int, n_dims: int, n_bins: int) -> Tensor:
    """Spectrum of a model by the whole transform, points counted one by one."""
    index = torch.arange(side**n_dims)
    at = torch.stack([(index // side**k % side + 0.5) / side for k in range(n_dims)], dim=1)
    with torch.no_grad():
        values = model(at).t().reshape(-1, *[side] * n_dims)
    full = torch.fft.fftn(values.double(), dim=tuple(range(1, n_dims + 1))).abs().sum(0)
    bins = sum(index // side**k % side for k in range(n_dims))
    sums = torch.stack([full.flatten()[bins == k].sum() for k in range(1, n_bins + 1)])
    return sums / sums.sum()


@pytest.mark.parametrize("n_dims", [1, 2, 3])
@pytest.mark.parametrize("kind", ["GaussianFourier", "Grid", "sine", "wire"])
def test_one_pass_gives_what_one_by_one_gives(kind: str, n_dims: int) -> None:
    """Same distances and choice, though initialisations share their points, and transforms are cut between axes. The
    tolerance: both sum in float64, from values whose chunks are the same."""
    parameter, encoding, network = blocks_of(kind)
    candidates = fresh.sweep(encoding, network, n_dims, 2, parameter.key, parameter.values[:3])
    candidates = dataclasses.replace(candidates, highest=None)
    signal, side = wave(24, *[5] + [0] * (n_dims - 1)) + wave(24, *[2] * n_dims), 26
    choice = fresh.choose(signal, candidates, 12, 4, side)
    distances = []
    for value, n in zip(choice.values, choice.repeats, strict=True):
        spectra = [by_definition(candidates.build(value, seed), side, n_dims, 12) for seed in range(n)]
        distances.append(sum(fresh.wasserstein(s, choice.target) for s in spectra) / n)
    assert choice.distances == pytest.approx(distances, rel=1e-9)
    nearest = min(range(3), key=lambda i: distances[i])
    tied = [i for i in range(3) if distances[i] <= distances[nearest] + choice.errors[nearest] + 1e-6]
    assert choice.index == tied[0]


def test_models_without_a_spectrum_are_left_out() -> None:
    """A constant is nearer to a high frequency than models of low ones; as NaN it must not be chosen either."""
    signal = wave(32, 0, 15)
    outputs = {1.0: wave(32, 0, 1), 2.0: torch.ones(1, 32, 32), 3.0: wave(32, 0, 1) / 0, 4.0: wave(32, 0, 6)}

    def candidates(*values: float) -> Candidates:
        return Candidates("k", values, lambda value, seed: lambda x: outputs[value].view(-1, 1).float(), None)

    choice = fresh.choose(signal, candidates(1.0, 2.0, 3.0, 4.0), side=32)
    assert choice.value == 4.0 and choice.values == (1.0, 4.0) and choice.flat == (2.0, 3.0)
    assert choice.report()["flat"] == [2.0, 3.0] and len(choice.spectra) == len(choice.repeats) == 2
    message = r"fresh: no untrained model has a spectrum, whatever k is \(2 ... 3\): all are constant or not finite"
    with pytest.raises(UserError, match=message):
        fresh.choose(signal, candidates(2.0, 3.0), side=32)


def blocks_of(kind: str) -> tuple[Parameter, dict, dict]:
    if kind in OF_ENCODINGS:
        small = {"n_levels": 4, "log2_hashmap_size": 10, "base_resolution": 4} if kind == "Grid" else {}
        return OF_ENCODINGS[kind], {"otype": kind, **small}, NETWORK
    network = NETWORK | ({"otype": "WIRE"} if kind == "wire" else {"activation": kind})
    return OF_ACTIVATIONS[kind], POINTS, network


@pytest.mark.parametrize("n_dims", [1, 2, 3])
@pytest.mark.parametrize("kind", [*OF_ENCODINGS, *OF_ACTIVATIONS])
def test_finer_signals_ask_for_higher_values(kind: str, n_dims: int) -> None:
    """Every parameter that has defaults, in 1 to 3 dimensions: two of its values, a coarse and a fine signal."""
    parameter, encoding, network = blocks_of(kind)
    low, high = (parameter.values[1], parameter.values[-3]) if kind != "Grid" else (8, 64)
    candidates = fresh.sweep(encoding, network, n_dims, 1, parameter.key, (low, high))
    candidates = dataclasses.replace(candidates, highest=None)
    signals = [wave(32, *[1] + [0] * (n_dims - 1)), wave(32, *[12 // n_dims] * n_dims)]
    side = {1: 160, 2: 160, 3: 40}[n_dims]
    assert fresh.choose(signals[0], candidates, 16, 3, side).value == low
    fine = fresh.choose(signals[1] + 0.01 * signals[0], candidates, 16, 3, side)
    assert fine.distances[1] < fine.distances[0]


@pytest.mark.parametrize(("side", "expected"), [(24, 6), (128, 32), (256, 64), (300, 64)])
def test_small_signals_have_bins_in_proportion(side: int, expected: int) -> None:
    """64 bins are meant for 256 points a side; what the caller asks for is only cut at half the side."""
    candidates = fresh.sweep(POINTS, NETWORK | {"activation": "Sine"}, 2, 1, values=(10, 20))
    signal = wave(side, 2, 3)
    assert len(fresh.choose(signal, candidates, repeats=3, side=2 * 64).target) == expected
    assert len(fresh.choose(signal, candidates, 40, repeats=3, side=2 * 64).target) == min(40, side // 2)


@pytest.mark.parametrize("kind", [*OF_ENCODINGS, *OF_ACTIVATIONS])
def test_models_are_sampled_finely_enough(kind: str) -> None:
    """Twice as many points a side change a candidate's own spectrum by less than half of what its neighbour's differs:
    nothing that decides the ranking folds back. The finest candidates that 256 samples can show."""
    _, encoding, network = blocks_of(kind)
    if kind == "Grid":
        encoding = encoding | {"n_levels": 8, "log2_hashmap_size": 14, "base_resolution": 16}
    candidates = fresh.sweep(encoding, network, 2, 3)
    fitting = [v for v in candidates.values if candidates.highest(v) <= 256]
    spectra = {}
    for value in fitting[-2:]:
        side = model_side(candidates.highest(value), 64)
        model = candidates.build(value, 1)
        spectra[value] = [_spectra_of([model], s, 2, 64)[0] for s in (side, 2 * side)]
    (_, below), (seen, finest) = spectra.values()
    assert fresh.wasserstein(seen, finest) < fresh.wasserstein(below, finest) / 2


def test_values_beyond_the_samples_are_left_out() -> None:
    candidates = fresh.sweep({"otype": "GaussianFourier", "n_frequencies": 16}, NETWORK, 2, 1, values=(2, 9, 40))
    choice = fresh.choose(wave(64, 3, 2) + wave(64, 0, 9), candidates, repeats=3)
    assert choice.values == (2, 9) and choice.left_out == (40,) and choice.report()["left_out"] == [40]
    only = fresh.sweep({"otype": "GaussianFourier", "n_frequencies": 16}, NETWORK, 2, 1, values=(40, 50))
    assert fresh.choose(wave(16, 3, 2), only, repeats=3).values == (40,)


def test_bins_are_those_of_the_kind() -> None:
    seen = []
    for kind, n in {"GaussianFourier": 128, "sine": 64}.items():
        parameter, encoding, network = blocks_of(kind)
        candidates = fresh.sweep(encoding, network, 2, 1, values=parameter.values[:2])
        seen.append(len(fresh.choose(wave(300, 3, 2), candidates, repeats=3, progress=seen.append).target))
        assert seen[-1] == n
    solid = fresh.sweep(POINTS, NETWORK | {"activation": "Sine"}, 3, 1, values=(10, 20))
    assert len(fresh.choose(wave(80, 3, 2, 1), solid, 40, repeats=3).target) == 32


def test_repeats_end_when_one_is_left() -> None:
    """Two that cannot be told apart go on, one that is far stops; a single near one stops, too."""
    signal = wave(32, 4, 0) + 0.5 * wave(32, 0, 3)

    def build(value: float, seed: int):
        noise = 0.05 * torch.randn(32 * 32, 1, generator=torch.Generator().manual_seed(seed + int(10 * value)))
        clear = signal if value < 3 else wave(32, 9, 0)
        return lambda x: clear.view(-1, 1) + noise

    both = fresh.choose(signal, Candidates("k", (1.0, 2.0, 3.0), build, None), side=32)
    assert both.repeats == (10, 10, 3)
    assert fresh.choose(signal, Candidates("k", (1.0, 3.0), build, None), side=32).repeats == (3, 3)


def test_any_models_can_be_compared() -> None:
    """Radiance fields, say: only a function of value and seed is needed. Ties go to the lower frequency."""
    signal = wave(32, 4, 0) + wave(32, 0, 3)
    candidates = Candidates("waves", (1.0, 2.0, 3.0), lambda value, seed: lambda x: signal.view(-1, 1) * value, None)
    choice = fresh.choose(signal, candidates, side=32)
    assert choice.value == 1.0 and choice.distances[0] < 1e-6


def test_models_see_x_first() -> None:
    """Positions are (x, y) and rows of the image are y: along a row only x grows."""
    seen = []

    def build(value: float, seed: int):
        return lambda x: seen.append(x) or torch.cos(12 * math.pi * x[:, :1])

    fresh.choose(wave(32, 0, 6), Candidates("one", (1.0,), build, None), repeats=3, side=32)
    at = seen[0].view(32, 32, 2)
    assert (at[:, 1:] - at[:, :-1])[..., 0].gt(0).all() and torch.equal(at[:, 1:, 1], at[:, :-1, 1])


def test_errors_are_one_line() -> None:
    candidates = fresh.sweep({"otype": "GaussianFourier"}, NETWORK, 2, 1)
    for message, signal in {
        r"expected a signal \[n_channels, ...\] of 1 ... 3 dimensions .*, got \[8\]": torch.zeros(8),
        r"expected a signal .* dimensions of at least 4 points, got \[1, 2, 9\]": torch.zeros(1, 2, 9),
        r"the signal has no spectrum: it is constant, or not finite": torch.ones(1, 32, 32),
        r"the signal has no spectrum": torch.full((1, 32, 32), math.nan),
    }.items():
        with pytest.raises(UserError, match="fresh: " + message):
            fresh.choose(signal, candidates)
    with pytest.raises(UserError, match="fresh: repeats must be at least 3, got 1"):
        fresh.choose(wave(32, 1, 1), candidates, repeats=1)
    with pytest.raises(UserError, match="fresh: no default with encoding Identity and activation ReLU; give key and"):
        fresh.sweep(POINTS, NETWORK, 2, 1)
    with pytest.raises(UserError, match=r"fresh: no default values for encoding.seed with encoding GaussianFourier"):
        fresh.sweep({"otype": "GaussianFourier"}, NETWORK, 2, 1, key="encoding.seed")
    with pytest.raises(UserError, match=r"fresh: expected encoding.KEY or network.KEY and some values, got 'sigma'"):
        fresh.sweep({"otype": "GaussianFourier"}, NETWORK, 2, 1, "sigma", [1])
    with pytest.raises(UserError, match=r"unknown key 'sigmas'"):
        fresh.sweep({"otype": "GaussianFourier"}, NETWORK, 2, 1, "encoding.sigmas", [1]).build(1, 0)
    with pytest.raises(UserError, match=r"expected equal sides of at least 2 \* 8 points, got \[1, 15, 15\]"):
        fresh.spectrum(torch.zeros(1, 15, 15), 8)


def choice_of(values: list[float], nearest: int) -> fresh.Choice:
    """Distances grow from the nearest on."""
    n, line = len(values), torch.ones(4, dtype=torch.float64) / 4
    distances = tuple(abs(i - nearest) + 0.1 * (i > nearest) for i in range(n))
    zeros = (0.0,) * n
    return fresh.Choice("k.v", tuple(values), nearest, distances, zeros, (3,) * n, (), (), line, line.expand(n, 4), 0.0)


@pytest.mark.parametrize(
    ("nearest", "own", "best", "tried"),
    [
        (4, None, 1, [5, None, 4, 3, 2, 1]),  # downhill, the nearer spectrum first
        (1, 5, 3, [5, 2, 4, 3]),  # on from what the method has, where that is better
        (4, 2, 1, [2, 5, 3, 1]),  # the nearer spectrum is the higher one
        (2, 3, 2, [3, 2, 4]),  # nothing is better
        (0, 9, 0, [1, None, 2]),  # what the method has is no candidate
    ],
)
def test_trials_climb(nearest: int, own: float | None, best: int, tried: list[float | None]) -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    choice = choice_of(values, nearest)
    scores = {v: -abs(i - best) for i, v in enumerate(values)} | {None: -3.5}
    trials = fresh.climb(choice, own, scores.__getitem__, lambda n: True)
    assert [t.value for t in trials] == tried
    assert dataclasses.replace(choice, trials=trials).value == values[best]


def test_trials_end_where_time_does() -> None:
    values = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    choice = choice_of(values, 5)
    for n_allowed, value in ((0, 6), (1, 6), (2, 6), (3, 5), (4, 4)):
        trials = fresh.climb(choice, None, lambda v: -7 if v is None else -v, lambda n, most=n_allowed: n < most)
        # one trial says nothing, with none to compare it with
        assert len(trials) == (n_allowed if n_allowed > 1 else 0)
        assert dataclasses.replace(choice, trials=trials).value == value


def test_what_the_method_has_is_kept_where_it_is_better() -> None:
    choice = choice_of([1.0, 2.0, 3.0], 1)
    trials = fresh.climb(choice, None, lambda v: 9.0 if v is None else 5.0, lambda n: True)
    kept = dataclasses.replace(choice, trials=trials)
    assert trials == ((2.0, 5.0), (None, 9.0)) and kept.value is None
    report = json.loads(json.dumps(kept.report()))
    assert report["value"] is None and report["nearest"] == 2 and report["trials"][1] == {"value": None, "psnr": 9}
    assert fresh.draw(kept).size == (1680, 400) and fresh.draw(choice).size == (1120, 400)


def test_chance_does_not_decide() -> None:
    """Three tenths of a decibel are not worth leaving the nearer spectrum; trials without numbers are never chosen."""
    choice = choice_of([1.0, 2.0, 3.0], 1)
    for own, scores, value in (
        (None, {2.0: 5, None: 5.05, 1.0: 5.29, 3.0: 5.4}, 3),
        (None, {2.0: 5, None: 5.4}, None),
        (1.0, {2.0: 5.29, 1.0: 5}, 1),  # nor are they worth leaving what the method has
        (1.0, {2.0: 5.31, 1.0: 5, 3.0: 5}, 2),
    ):
        trials = fresh.climb(choice, own, scores.__getitem__, lambda n: True)
        assert dataclasses.replace(choice, trials=trials).value == value
    trials = fresh.climb(choice, None, lambda v: -math.inf, lambda n: True)
    broken = dataclasses.replace(choice, trials=trials)
    assert broken.value == 2
    assert json.loads(json.dumps(broken.report()))["trials"][0]["psnr"] is None
    fresh.draw(broken)
