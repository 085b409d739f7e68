# SPDX-License-Identifier: Apache-2.0
"""What happens when a step gives NaN or Inf: it is left out; training that cannot recover ends with an error."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from neurfield.errors import MachineError, UserError


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating-point tensors that hold NaN or Inf."""
    # a sum is finite exactly when all terms are, unless it overflows; then the elementwise test decides
    return [
        name
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and not math.isfinite(float(tensor.sum())) and not bool(tensor.isfinite().all())
    ]


class NonFiniteGuard:
    """Counts bad steps. `patience` of them in a row restore the last good parameters; `max_rollbacks` of that end it.

    Args:
        tensors: gives what must be finite, by name.
        restore: puts the last good state back and returns its step, or None where there is none.
        report: takes a line for the user.
    """

    def __init__(
        self,
        tensors: Callable[[], Mapping[str, Tensor]],
        restore: Callable[[], int | None],
        report: Callable[[str], None],
        patience: int = 8,
        max_rollbacks: int = 2,
    ):
        self._tensors, self._restore, self._report = tensors, restore, report
        self._patience, self._max_rollbacks = patience, max_rollbacks
        self._in_a_row = 0
        self._rollbacks = 0
        self.n_skipped = 0

    def check(self, step: int, loss: float) -> bool:
        """True when the step's loss is finite. Otherwise counts it, and rolls back when patience is out.

        Raises:
            MachineError: training cannot go on; the message names what is not finite.
        """
        if math.isfinite(loss):
            self._in_a_row = 0
            return True
        self._in_a_row += 1
        self.n_skipped += 1
        if self._in_a_row == 1:
            self._report(f"step {step}: the loss is {loss}; the step is left out")
        if self._in_a_row >= self._patience:
            self._roll_back(step)
        return False

    def _roll_back(self, step: int) -> None:
        names = non_finite(self._tensors())
        what = f"not finite: {', '.join(names)}" if names else "all parameters are finite, so it comes from the data"
        self._rollbacks += 1
        good = self._restore() if names and self._rollbacks <= self._max_rollbacks else None
        if good is None:
            raise MachineError(
                f"training stopped at step {step}: no finite loss in {self._in_a_row} steps in a row ({what}); "
                "try a lower --set optimizer.learning_rate"
            )
        self._report(f"step {step}: {what}; went back to the parameters of step {good}")
        self._in_a_row = 0


def assert_finite(tensors: Mapping[str, Tensor], step: int) -> None:
    """Keeps broken parameters out of checkpoints. Raises MachineError naming them."""
    names = non_finite(tensors)
    if names:
        raise MachineError(f"step {step}: not finite: {', '.join(names)}; no checkpoint was written")


def check_finite(path: Path, field: nn.Module) -> None:
    """Keeps broken parameters of a file out of use. Raises UserError naming them."""
    names = non_finite({name: value.detach() for name, value in field.named_parameters()})
    if names:
        raise UserError(f"{path}: not finite: {', '.join(names)}; use another checkpoint, or train a new run")
