# SPDX-License-Identifier: Apache-2.0
"""From photos, or a video, to a data set: `process` copies them, finds their cameras and writes COLMAP's layout.

Names are imported when they are first used: the command line's help reads the options without loading torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from neurfield.data.capture.data_set import process
    from neurfield.data.capture.options import ProcessOptions
    from neurfield.data.capture.report import CaptureReport

_PUBLIC = {"CaptureReport": "report", "ProcessOptions": "options", "process": "data_set"}
__all__ = ["CaptureReport", "ProcessOptions", "process"]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurfield.data.capture' has no attribute {name!r}")
    return getattr(import_module(f"neurfield.data.capture.{_PUBLIC[name]}"), name)
