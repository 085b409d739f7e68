# SPDX-License-Identifier: Apache-2.0
"""Sizes of moving pictures settle where their time is as wanted, whatever a picture costs beside its pixels."""

import pytest

from neurfield.viewer.resolution import MIN_SIDE, Resolution, fitted

FULL = (800, 600)


def settled(fixed: float, per_pixel: float, seconds: float = 0.04) -> tuple[tuple[int, int], float]:
    """The size after a while, and its cost."""
    resolution = Resolution(seconds)
    for _ in range(60):
        width, height = resolution.size(*FULL)
        cost = fixed + per_pixel * width * height
        resolution.observe(width, height, cost)
    return (width, height), cost


@pytest.mark.parametrize("fixed", [0.0, 0.005, 0.02])
@pytest.mark.parametrize("per_pixel", [3e-7, 6e-7, 5e-6])
def test_the_time_is_used_and_kept(fixed: float, per_pixel: float):
    (width, height), cost = settled(fixed, per_pixel)
    # sizes are steps of 2^(1/4) on each side, so one step more would be 1.41 times the pixels
    assert width / height == pytest.approx(4 / 3, rel=0.03)
    assert cost < 0.04 * 1.25  # the factor by which it tries
    assert fixed + per_pixel * width * height * 2 > 0.04


def test_cheap_pictures_are_whole():
    assert settled(0.001, 1e-8)[0] == FULL


def test_a_slow_picture_is_followed_by_a_smaller_one_at_once():
    resolution = Resolution(0.04)
    for _ in range(30):
        resolution.observe(*resolution.size(*FULL), 0.03)
    before = resolution.size(*FULL)
    resolution.observe(*before, 0.2)
    after = resolution.size(*FULL)
    assert after[0] * after[1] < 0.5 * before[0] * before[1]
    # one hiccup is forgotten
    for _ in range(12):
        resolution.observe(*resolution.size(*FULL), 0.03)
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
