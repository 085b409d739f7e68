# SPDX-License-Identifier: Apache-2.0
"""Turns a trained run into another one. A converter is a file and a line here."""

from collections.abc import Callable
from typing import Any, NamedTuple

from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.small import AnyRun, to_half, to_int8


class Converter(NamedTuple):
    """`convert` gives the new run of a trained one and a Request, or None if it was interrupted; `about` is for the
    user. `takes_signals`: also runs of images, shapes, videos and volumes. `trains`: on a device of choice."""

    convert: Callable[[Any, Any], AnyRun | None]
    about: str
    takes_signals: bool = False
    trains: bool = False


CONVERTERS: dict[str, Converter] = {
    "kilonerf": Converter(to_kilonerf, "thousands of tiny networks, distilled and fine-tuned", trains=True),
    "half": Converter(to_half, "one small .safetensors file with parameters in fp16", True),
    "int8": Converter(to_int8, "one smaller .safetensors file with networks, grids and tables in 8 bits", True),
}
