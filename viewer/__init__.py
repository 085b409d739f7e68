# SPDX-License-Identifier: Apache-2.0
"""The interactive viewer, in a browser: trained runs, trainings under way, and data sets.

`show` opens it from Python, `neurfield view` and `neurfield train --vis viewer` from the command line. It talks to the
engine through its public API and draws nothing itself: viser does pages, scenes and sockets.

Names are imported when they are first used, so that a command that only offers the viewer does not pay for it.
"""

from importlib import import_module
from typing import Any

# public name: the module that defines it
_PUBLIC = {
    "Live": "neurfield.viewer.live",
    "ServeOptions": "neurfield.viewer.options",
    "Shown": "neurfield.viewer.shown",
    "Viewer": "neurfield.viewer.server",
    "open_viewer": "neurfield.viewer.embed",
    "settled": "neurfield.viewer.server",
    "show": "neurfield.viewer.embed",
    "shown_data": "neurfield.viewer.embed",
    "shown_path": "neurfield.viewer.embed",
    "shown_run": "neurfield.viewer.stages",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'neurfield.viewer' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
