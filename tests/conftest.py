# SPDX-License-Identifier: Apache-2.0
"""Fixtures. Data sets are read from NEURFIELD_DATA (default ../shared/data) and tests skip without them."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_root() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("NEURFIELD_DATA") or default)
    if not root.is_dir():
        pytest.skip(f"no data sets at {root}; set NEURFIELD_DATA")
    return root
