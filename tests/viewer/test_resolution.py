# SPDX-License-Identifier: Apache-2.0
"""Sizes of moving pictures settle where their time is as wanted, whatever a picture costs beside its pixels."""

import pytest

from neurfield.viewer.resolution import MIN_SIDE, Resolution, fitted

FULL = (800, 600)


def settled(fixed: float, per_pixel: float, seconds: float = 0.04) -> tuple[tuple[int, int], float]:
    """The size after a while, and its cost."""
    resolution = Resolution(seconds)
    sizes = []
    for _ in range(60):
        width, height = resolution.size(*FULL)
        cost = fixed + per_pixel * width * height
        resolution.observe(width, height, cost)
        sizes.append((width, height))
    assert len(set(sizes[30:])) == 1  # no two sizes take turns
    return (width, height), cost


@pytest.mark.parametrize("fixed", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("per_pixel", [3e-7, 6e-7, 5e-6])
def test_the_time_is_used_and_kept(fixed: float, per_pixel: float):
    (width, height), cost = settled(fixed, per_pixel)
    # sizes are steps of 2^(1/4) on each side, and a step is taken while less than 0.65 of the time is used
    assert width / height == pytest.approx(4 / 3, rel=0.03)
    assert cost < 0.04 * 1.15
    assert cost > 0.04 * 0.65 / 1.5


def test_cheap_pictures_are_whole():
    assert settled(0.001, 1e-8)[0] == FULL


def test_a_slow_picture_is_followed_by_a_smaller_one_at_once():
    resolution = Resolution(0.04)
    for _ in range(30):
        width, height = resolution.size(*FULL)
        resolution.observe(width, height, 2e-7 * width * height)
    before = resolution.size(*FULL)
    resolution.observe(*before, 0.2)
    after = resolution.size(*FULL)
    assert after[0] * after[1] < 0.5 * before[0] * before[1]
    # one hiccup is forgotten
    for _ in range(12):
        width, height = resolution.size(*FULL)
        resolution.observe(width, height, 2e-7 * width * height)
    assert resolution.size(*FULL) == before


def test_never_below_the_smallest_and_never_above_the_page():
    assert min(settled(1.0, 1e-6)[0]) >= MIN_SIDE
    assert Resolution(1.0).size(20, 10) == (20, 10)
    resolution = Resolution(0.04)
    for _ in range(100):
        resolution.observe(20, 10, 1e-4)
    assert resolution.size(20, 10) == (20, 10)


def test_fitted_keeps_the_shape():
    assert fitted(1600, 900, 800) == (800, 450)
    assert fitted(300, 200, 800) == (300, 200)
    assert fitted(10_000, 1, 100) == (100, 1)
