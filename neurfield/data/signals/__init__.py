# SPDX-License-Identifier: Apache-2.0
"""Single files that a field can learn: `read` gives what READERS lists, by kind.

A reader module has `detect(path) -> bool` and `read(path, max_megapixels, progress) -> signal`; what a new kind needs
besides it: docs/signals.md.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from neurfield.data.signals import image, mesh, video, volume
from neurfield.data.unknown import foreign_picture
from neurfield.errors import UserError
from neurfield.files import check_readable
from neurfield.progress import Progress, silent


class Reader(Protocol):
    """A module that reads one kind of signal."""

    def detect(self, path: Path) -> bool: ...

    def read(self, path: Path, max_megapixels: float, progress: Progress) -> Any: ...


# In the order in which they are tried. A file of several kinds is of the first, unless a method is for another of them.
READERS: Mapping[str, Reader] = MappingProxyType(
    {"image": image, "sdf": mesh, "occupancy": mesh, "video": video, "volume": volume}
)


def kind_of(path: Path) -> str | None:
    """Kind of signal that a file is; None for folders, missing files and everything else."""
    if not os.path.isfile(path):  # false, not an error, for names that no file can have
        return None
    return next((kind for kind, reader in READERS.items() if reader.detect(path)), None)


def read(path: Path, kind: str | None = None, max_megapixels: float = 64.0, progress: Progress = silent) -> Any:
    """The signal in a file; `progress` hears of videos, which take the longest.

    Raises:
        UserError: no signal of a known kind, or one that cannot be used or may not be read.
    """
    check_readable(path)
    kind = kind or kind_of(path)
    if kind is None:
        advice = foreign_picture(path)
        raise UserError(f"{path}: not a signal of a known kind ({', '.join(READERS)}){f'; {advice}' if advice else ''}")
    return READERS[kind].read(path, max_megapixels, progress)
