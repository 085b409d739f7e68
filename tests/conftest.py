# SPDX-License-Identifier: Apache-2.0
"""Marks and fixtures. Data sets are read from NEURFIELD_DATA (default ../shared/data) and tests skip without them."""

import os
from pathlib import Path

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-slow", action="store_true", help="also run tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    skips = []
    if not config.getoption("--run-slow"):
        skips.append(("slow", pytest.mark.skip(reason="slow: use --run-slow")))
    if not torch.cuda.is_available():
        skips.append(("cuda", pytest.mark.skip(reason="no CUDA device")))
    for item in items:
        for mark, skip in skips:
            if mark in item.keywords:
                item.add_marker(skip)


@pytest.fixture(scope="session")
def data_root() -> Path:
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    root = Path(os.environ.get("NEURFIELD_DATA") or default)
    if not root.is_dir():
        pytest.skip(f"no data sets at {root}; set NEURFIELD_DATA")
    return root
