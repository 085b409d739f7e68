# SPDX-License-Identifier: Apache-2.0
"""Large tensors get huge pages, whichever of torch and neurfield is imported first."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

POLICY = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CODE = """
import neurfield, torch
table = torch.zeros(64 << 20, dtype=torch.uint8)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages:")))
"""

pytestmark = pytest.mark.skipif(
    not POLICY.exists() or "[madvise]" not in POLICY.read_text(), reason="Linux that leaves huge pages to programs"
)


def kilobytes(first: str, **environment: str) -> int:
    """What a process with a tensor of 64 MB has in huge pages."""
    env = {k: v for k, v in os.environ.items() if k != "THP_MEM_ALLOC_ENABLE"} | environment
    command = [sys.executable, "-c", f"import {first}\n{CODE}"]
    return int(subprocess.run(command, env=env, capture_output=True, check=True).stdout)


def test_large_tensors_lie_in_huge_pages() -> None:
    asked = kilobytes("torch", THP_MEM_ALLOC_ENABLE="1")
    if asked < 48 << 10:
        pytest.skip("no memory in pieces of 2 MB is left")
    assert kilobytes("torch") >= 48 << 10
    assert kilobytes("neurfield") >= 48 << 10
    assert kilobytes("neurfield", THP_MEM_ALLOC_ENABLE="0") < 8 << 10  # what the user asks for stays
