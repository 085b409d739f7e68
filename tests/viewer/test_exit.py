# SPDX-License-Identifier: Apache-2.0
"""The end of a program that has a viewer: none of its threads may still be in native code, or the process aborts."""

import subprocess
import sys

import pytest

OPENED = """
import time, torch
from neurfield.fields.signal_field import SignalField
from neurfield.viewer import open_viewer
from tests.viewer.test_embed import GRID, MLP
from tests.viewer.wire import WirePage

begun = []

class SlowField(SignalField):
    def forward(self, x):
        begun.append(x)
        super().forward(torch.rand(1 << 21, 2))
        return super().forward(x)

def wait_for(things):
    while not things:
        time.sleep(0.01)

field = SlowField(2, 3, GRID, MLP).requires_grad_(False)
viewer = open_viewer(field, port=0)
wait_for(begun)
"""
FIRST_PICTURE = ""
JOB = """
page = WirePage(viewer.url).__enter__()
page.look_from(viewer.shown.home.camera(64, 48).c2w[0])
wait_for(viewer.pages)
(served,) = viewer.pages.values()
begun.clear()
served.start(lambda: field(torch.rand(1, 2)))
wait_for(begun)
"""


@pytest.mark.parametrize("end", ["", "viewer.close()"])
@pytest.mark.parametrize("work", [FIRST_PICTURE, JOB])
def test_a_program_ends_while_something_is_computed(work, end):
    script = f"{OPENED}{work}{end}\nprint('the last line')\n"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "the last line\n", "")
