# SPDX-License-Identifier: Apache-2.0
"""What a link says of the look of a page: `look/time=0.25&appearance=3/` at the end of its path.

viser's page reads the camera from the query of its address and takes only the path along when it opens its websocket;
so what viser does not know of is in the path. The gate takes it out of the requests of both.
"""

import math
import re
from collections.abc import Mapping
from contextvars import ContextVar
from urllib.parse import parse_qsl, urlencode

# of the connection whose requests are handled, for whatever is called on its behalf
TEXT: ContextVar[str] = ContextVar("neurfield_viewer_link", default="")
_PATH = re.compile(r"/look/([\w.=&-]{1,200})(/.*)?")


def taken_out(path: str) -> str:
    """The path without the part that says the look, which is kept in TEXT."""
    found = _PATH.fullmatch(path)
    TEXT.set(found[1] if found else "")
    return path if found is None else found[2] or "/"


def parsed(text: str) -> dict[str, float]:
    """`time`, 0 ... 1, and `appearance`, a whole number from 0 on, of a link; what is no such number is left out."""
    values: dict[str, float] = {}
    for name, value in parse_qsl(text):
        try:
            number = float(value)
        except ValueError:
            continue
        whole = name == "appearance" and number.is_integer() and 0 <= number < 2**31
        if math.isfinite(number) and (whole or (name == "time" and 0 <= number <= 1)):
            values[name] = number
    return values


def path_of(values: Mapping[str, float]) -> str:
    """The part of a path that says these values."""
    return f"look/{urlencode({name: f'{value:g}' for name, value in values.items()})}/" if values else ""
