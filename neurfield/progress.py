# SPDX-License-Identifier: Apache-2.0
"""What long work is told to say how far it has come."""

from collections.abc import Callable

Progress = Callable[[float], None]  # of the fraction that is done, 0 ... 1; what it raises ends the work


def silent(fraction: float) -> None:
    """Where nobody wants to know."""
