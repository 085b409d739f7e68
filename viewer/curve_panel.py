# SPDX-License-Identifier: Apache-2.0
"""The curve of a training."""

from typing import TYPE_CHECKING

import numpy as np

from neurfield.viewer.shown import Curve

if TYPE_CHECKING:
    from neurfield.viewer.page import Page


def build(page: "Page") -> None:
    """The curve of a training that is over, below the other panels."""
    curve = page.viewer.shown.curve
    if len(curve.points) > 1:
        with page.client.gui.add_folder("Training", expand_by_default=False):
            plot(page, curve)


def plot(page: "Page", curve: Curve) -> object:
    """A curve of the training; returns viser's handle."""
    steps, values = (np.array(column, np.float64) for column in zip(*curve.points, strict=True))
    is_loss = curve.label == "loss"  # falls by orders of magnitude
    return page.client.gui.add_uplot(
        (steps, values),
        ({"label": "step"}, {"label": curve.label, "stroke": "#f58220", "width": 2}),
        scales={"x": {"time": False}, "y": {"distr": 3} if is_loss else {}},
        title=f"training {curve.label}",
        aspect=1.9,
        legend={"show": False},
        axes=({"stroke": "#888"}, {"stroke": "#888"}),
    )
