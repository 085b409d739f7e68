# SPDX-License-Identifier: Apache-2.0
"""Choice of a frequency parameter without training (FreSh, Kania et al. 2025).

The spectrum of the signal is compared with the spectra of freshly initialised models; the setting whose spectrum is
nearest is taken.

candidates = fresh.sweep({"otype": "GaussianFourier"}, {"otype": "MLP", "n_neurons": 256}, n_dims=2, n_channels=3)
choice = fresh.choose(image, candidates)          # image [3, height, width]
encoding, network = candidates.blocks(choice.value)
"""

from neurfield.fresh.candidates import Candidates, Model, sweep
from neurfield.fresh.choose import Choice, Trial, choose
from neurfield.fresh.climb import climb
from neurfield.fresh.picture import draw
from neurfield.fresh.spectrum import resize, spectrum, wasserstein

__all__ = [
    "Candidates",
    "Choice",
    "Model",
    "Trial",
    "choose",
    "climb",
    "draw",
    "resize",
    "spectrum",
    "sweep",
    "wasserstein",
]
