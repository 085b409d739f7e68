# SPDX-License-Identifier: Apache-2.0
"""How shapes are measured where it is not the measuring that is tested."""

import pytest

from neurfield.training import sdf_evaluation


@pytest.fixture
def few_places(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes are measured at a sixteenth of the points, with 96 cells: IoUs near 1 are known to within 0.002."""
    for name, value in (("IOU_POINTS", 1 << 16), ("CHAMFER_POINTS", 1 << 13), ("CHAMFER_RESOLUTION", 96)):
        monkeypatch.setattr(sdf_evaluation, name, value)
