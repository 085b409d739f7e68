# SPDX-License-Identifier: Apache-2.0
"""Turns a trained radiance field into another one. A converter is a file and a line here."""

from collections.abc import Callable

from neurfield.convert.half import to_half
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.request import Request
from neurfield.run import Run

# name: function (trained run, what is asked for) -> the new run, or None if it was interrupted
CONVERTERS: dict[str, Callable[[Run, Request], Run | None]] = {
    "kilonerf": to_kilonerf,
    "half": to_half,
}
