# SPDX-License-Identifier: Apache-2.0
"""What the training loop knows of a thing to be trained: a module, a step, and the state that belongs to neither."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from neurfield.training.optimizer import Adam


@dataclass(frozen=True)
class StepResult:
    """What a step did.

    Attributes:
        loss: as optimised; NaN where the step was left out because something was not finite.
        squared_error: mean squared error of values in 0 ... 1, or NaN where that means nothing.
        n_rays: rays that took part; 0 for tasks without rays.
        n_samples: positions that the field was asked at.
    """

    loss: float
    squared_error: float
    n_rays: int
    n_samples: int


StepFn = Callable[[int, float, float], StepResult]  # number of the step, learning rate, used part of the budget


class Task(Protocol):
    """A field that is to learn something. All randomness of a step is a function of the seed and the step's number."""

    @property
    def field(self) -> nn.Module:
        """The module whose parameters are optimised, averaged and kept."""
        ...

    def start(self, optimizer: Adam) -> StepFn:
        """The step that updates `field` through `optimizer`; one whose loss is not finite changes neither."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """What changes while training beside field, optimiser and average, by name; not copies."""
        ...

    def counters(self) -> dict[str, Any]:
        """Plain values that change while training."""
        ...

    def restore(self, counters: dict[str, Any]) -> None:
        """Takes over the counters of a state whose tensors have been copied in."""
        ...

    def refresh(self) -> None:
        """Called when tensors were replaced: derives again what is derived from them."""
        ...


class NoState:
    """The part of a Task that has nothing to keep beside field, optimiser and average."""

    def tensors(self) -> dict[str, Tensor]:
        return {}

    def counters(self) -> dict[str, Any]:
        return {}

    def restore(self, counters: dict[str, Any]) -> None:
        pass

    def refresh(self) -> None:
        pass
