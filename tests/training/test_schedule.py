# SPDX-License-Identifier: Apache-2.0
import math
import time

from neurfield.training.schedule import Budget, Clock, learning_rate_factor, process_age


def test_progress_follows_whichever_limit_is_nearer():
    budget = Budget(max_seconds=10, max_num_iterations=100)
    assert budget.progress(5, 10) == 0.5
    assert budget.progress(1, 90) == 0.9
    assert budget.progress(20, 0) == 1.0
    assert Budget(max_num_iterations=4).progress(1e9, 1) == 0.25
    assert Budget(max_num_iterations=0).progress(0, 0) == 1.0


def test_the_rate_is_constant_then_falls_exponentially_to_its_end():
    assert learning_rate_factor(0.0, 0.3, 0.03) == learning_rate_factor(0.3, 0.3, 0.03) == 1.0
    assert math.isclose(learning_rate_factor(1.0, 0.3, 0.03), 0.03)
    assert math.isclose(learning_rate_factor(0.65, 0.3, 0.03), math.sqrt(0.03))  # half-way through the fall
    assert learning_rate_factor(1.0, 1.0, 0.03) == 1.0


def test_the_rate_falls_in_stages():
    """As published for images with modulation: a tenth after 1000 and again after 1500 of 2000 steps."""
    factors = [learning_rate_factor(step / 2000, 0.5, 0.01, 2) for step in (0, 999, 1000, 1499, 1500, 1999, 2000)]
    assert all(map(math.isclose, factors, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01]))
    assert learning_rate_factor(0.9, 1.0, 0.01, 3) == 1.0
    assert math.isclose(learning_rate_factor(0.0, 0.0, 0.01, 1), 0.01)


def test_the_clock_counts_earlier_sessions_and_leaves_pauses_out():
    clock = Clock(start=time.monotonic() - 2, earlier=10)
    assert 12 <= clock.seconds() < 13
    clock.pause(time.monotonic() - 1)
    assert 11 <= clock.seconds() < 12


def test_the_age_of_the_process_includes_its_start():
    first = process_age()
    assert 0 < first < 24 * 3600
    time.sleep(0.05)
    assert 0.03 < process_age() - first < 5
