# SPDX-License-Identifier: Apache-2.0
"""Registries are plain dicts in sight of the reader; this is the one way to look a name up in them."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from neurfield.errors import UserError

T = TypeVar("T")


def nearest(name: str, names: Iterable[str]) -> str:
    """`", did you mean 'x'?"` for the closest of `names`, or an empty string."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def lookup(table: Mapping[str, T], name: str, kind: str) -> T:
    """Returns `table[name]`; raises UserError naming the kind, the valid names and the nearest one."""
    if name in table:
        return table[name]
    raise UserError(f"unknown {kind} {name!r}{nearest(name, table)} (valid: {', '.join(table)})")
