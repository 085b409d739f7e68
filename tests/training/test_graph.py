# SPDX-License-Identifier: Apache-2.0
"""Which calls of a Graphed function run as they are and which are replayed, without a device."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from neurfield.training import graph
from neurfield.training.graph import Graphed


class Capture:
    """Takes the place of a graph: what it is made of, and a replay that computes."""

    made: list[tuple[int, ...]]

    def __init__(self, fn, inputs) -> None:
        self.fn = fn
        Capture.made.append(tuple(len(tensor) for tensor in inputs))

    def replay(self, inputs) -> torch.Tensor:
        return self.fn(*inputs)


@pytest.fixture
def no_device(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """torch's streams as a list of what waits for what."""
    log: list[str] = []

    def stream(name: str) -> SimpleNamespace:
        return SimpleNamespace(name=name, wait_stream=lambda other: log.append(f"{name} waits for {other.name}"))

    here = stream("here")
    monkeypatch.setattr(torch.cuda, "Stream", lambda: stream("beside"))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: here)
    monkeypatch.setattr(torch.cuda, "stream", lambda used: nullcontext())
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, used: None)
    monkeypatch.setattr(graph, "_Captured", Capture)
    Capture.made = []
    return log


def test_three_calls_run_and_then_every_set_of_shapes_is_captured_once(no_device: list[str]) -> None:
    calls = []

    def add(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        calls.append(len(a))
        return a + b

    graphed = Graphed(add)
    for number, n in enumerate((4, 4, 8, 4, 8, 4)):
        a, b = torch.full((n,), float(number)), torch.ones(n)
        assert torch.equal(graphed(a, b), a + b)
        assert len(Capture.made) == max(0, min(number - 2, 2))
    assert calls == [4, 4, 8, 4, 8, 4] and Capture.made == [(4, 4), (8, 8)]
    assert no_device == 3 * ["beside waits for here", "here waits for beside"]
