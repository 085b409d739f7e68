# SPDX-License-Identifier: Apache-2.0
"""Turns a trained radiance field into another one. A converter is a file and a line here."""

from collections.abc import Callable
from typing import NamedTuple

from neurfield.convert.half import to_half
from neurfield.convert.kilonerf import to_kilonerf
from neurfield.convert.request import Request
from neurfield.run import Run


class Converter(NamedTuple):
    """`convert` gives the new run of a trained one, or None if it was interrupted; `about` is for the user."""

    convert: Callable[[Run, Request], Run | None]
    about: str


CONVERTERS: dict[str, Converter] = {
    "kilonerf": Converter(to_kilonerf, "thousands of tiny networks, distilled and fine-tuned"),
    "half": Converter(to_half, "one small .safetensors file with parameters in fp16"),
}
