# SPDX-License-Identifier: Apache-2.0
"""What long work is told to say how far it has come; what it raises ends the work."""

from collections.abc import Callable

Progress = Callable[[float], None]  # of the fraction that is done, 0 ... 1
TextProgress = Callable[[float, str], None]  # of that, and of a text about the present work


def silent(fraction: float, text: str = "") -> None:
    """Where nobody wants to know."""
