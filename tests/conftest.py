# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Data sets are read from NEURFIELD_DATA (default ../shared/data) and tests skip without them."""

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def data_root() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("NEURFIELD_DATA") or default)
    if not root.is_dir():
        pytest.skip(f"no data sets at {root}; set NEURFIELD_DATA")
    return root


@pytest.fixture(autouse=True)
def _auto_is_the_cpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is a GPU, `auto` leaves it alone but in the tests that are for it: the others count on equal bits."""
    if torch.cuda.is_available() and not request.node.get_closest_marker("cuda"):
        monkeypatch.setenv("NEURFIELD_CUDA", "0")
