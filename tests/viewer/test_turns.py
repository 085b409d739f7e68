# SPDX-License-Identifier: Apache-2.0
"""Turns are taken in the order in which they were asked for, and a long one lets others in."""

import threading
import time

from neurfield.viewer.turns import Turns


def wait_for_queue(turns: Turns, n: int) -> None:
    end = time.monotonic() + 5
    while len(turns._queue) < n and time.monotonic() < end:
        time.sleep(0.001)
    assert len(turns._queue) == n


def test_first_come_first_served():
    turns, order = Turns(), []

    def work(name: int) -> None:
        with turns:
            order.append(name)

    threads = []
    with turns:
        for i in range(4):
            threads.append(threading.Thread(target=work, args=(i,)))
            threads[-1].start()
            wait_for_queue(turns, i + 1)
    for thread in threads:
        thread.join(5)
    assert order == [0, 1, 2, 3]


def test_a_long_turn_passes_it_on_and_gets_it_back():
    turns, seen = Turns(), []
    other = threading.Thread(target=lambda: turns.__enter__() and (seen.append("other"), turns.__exit__()))
    with turns:
        turns.pass_on()  # nobody waits
        other.start()
        wait_for_queue(turns, 1)
        turns.pass_on()
        seen.append("long")
    other.join(5)
    assert seen == ["other", "long"]


def test_only_one_at_a_time():
    turns, inside, most = Turns(), 0, 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with turns:
                inside += 1
                most = max(most, inside)
                turns.pass_on() if inside == 0 else None
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1
