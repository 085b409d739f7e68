# SPDX-License-Identifier: Apache-2.0
"""The interactive viewer, in a browser: trained runs, trainings under way, and data sets.

`show` opens it from Python, `neurfield view` and `neurfield train --vis viewer` from the command line. It talks to the
engine through its public API and draws nothing itself: viser does pages, scenes and sockets.
"""

from neurfield.viewer.live import Live
from neurfield.viewer.server import ServeOptions, Shown, Viewer
from neurfield.viewer.show import open_viewer, show, shown_data, shown_run

__all__ = ["Live", "ServeOptions", "Shown", "Viewer", "open_viewer", "show", "shown_data", "shown_run"]
