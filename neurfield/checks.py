# SPDX-License-Identifier: Apache-2.0
"""Values that other people's files and callers give: whether they are usable, and how they look in a message."""

import math
import reprlib
from collections.abc import Iterable, Sequence
from typing import Any

_LARGEST = float.fromhex("0x1.fffffep127")  # of float32
_ROUNDING = 1e-6  # of poses, which files have in seven digits or so


def is_number(value: Any) -> bool:
    """A finite int or float that float64 can hold, and no bool."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # JSON knows integers of any length
        return False


def is_float32(value: Any) -> bool:
    """A number that is finite in float32, too, which cameras and fields hold."""
    return is_number(value) and abs(value) <= _LARGEST


def words(given: str | Iterable[str]) -> tuple[str, ...]:
    """Several words, or one that stands alone, of a caller who may forget that a text is a sequence of letters."""
    return (given,) if isinstance(given, str) else tuple(given)


def shown(value: Any) -> str:
    """`repr`, short enough for one line whatever a file holds."""
    return reprlib.repr(value)


def rounded(values: Iterable[float], digits: int, size: float) -> list[str]:
    """Numbers about something that is as large as `size`: what is no more than rounding beside it is 0."""
    return ["0" if abs(value) <= _ROUNDING * size else f"{value:.{digits}g}" for value in values]


def few(names: Sequence[str], limit: int = 3) -> str:
    """The first of them, and that there are more."""
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
