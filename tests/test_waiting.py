# SPDX-License-Identifier: Apache-2.0
"""Idle threads of torch take no processor time, whichever of torch and neurfield is imported first."""

import os
import subprocess
import sys

import pytest

# seconds of processor time of a process whose threads wait for 5 ms, 60 times, after a short operator
CODE = """
import time, torch
torch.set_num_threads(max(2, torch.get_num_threads()))
import neurfield
x = torch.ones(torch.get_num_threads() << 15)
x.add_(1)
start = time.process_time()
for _ in range(60):
    x.add_(1)
    time.sleep(0.005)
print(time.process_time() - start)
"""


def seconds(first: str, **environment: str) -> float:
    code = f"import {first}\n{CODE}"
    env = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")} | environment
    return float(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux" or len(os.sched_getaffinity(0)) < 2, reason="threads of GNU's OpenMP")
def test_idle_threads_sleep() -> None:
    spinning = seconds("torch", OMP_WAIT_POLICY="active")  # what the user asks for stays
    if spinning < 0.15:
        pytest.skip("other programs take the processors that would be spun on")
    assert seconds("torch") < spinning / 5
    assert seconds("neurfield") < spinning / 5
