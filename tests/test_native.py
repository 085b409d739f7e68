# SPDX-License-Identifier: Apache-2.0
"""The choice of the native module: the best instruction set of the machine, or the one that NEURFIELD_ISA names."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from neurfield import _native

CPUINFO = Path("/proc/cpuinfo")
LANES = {"avx512": 16, "avx2": 8, "baseline": 4}  # floats per vector: what only the right module can say


def run(isa: str, *words: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"NEURFIELD_ISA": isa}
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("isa", _native.supported_isas())
def test_the_named_module_is_loaded(isa):
    result = run(isa, "-c", "from neurfield._native import isa, lib; print(isa, lib.__name__, lib.simd_lanes)")
    assert result.stdout.split() == [isa, f"neurfield._native._{isa}", str(LANES[isa])], result.stderr


@pytest.mark.skipif(platform.machine() != "x86_64" or not CPUINFO.exists(), reason="no /proc/cpuinfo of an x86-64")
def test_what_the_machine_runs_is_what_the_kernel_says():
    flags = set(next(line for line in CPUINFO.read_text().splitlines() if line.startswith("flags")).split())
    wanted = {
        "avx512": {"avx512f", "avx512bw", "avx512dq", "avx512vl"},
        "avx2": {"avx2", "fma", "f16c", "bmi1", "bmi2"},
        "baseline": set(),
    }
    assert _native.supported_isas() == [isa for isa, needed in wanted.items() if needed <= flags]
    assert _native.lib.has_bf16_products == (_native.isa == "avx512" and "avx512_bf16" in flags)


def test_roofs_are_of_what_the_module_has():
    lib = _native.lib
    assert lib.measure_fma_peak(0.01) > 0
    assert (lib.measure_bf16_peak(0.01) > 0) == lib.has_bf16_products


def test_an_empty_name_means_the_best():
    result = run("", "-c", "from neurfield import _native; print(_native.isa)")
    assert result.stdout.split() == _native.supported_isas()[:1], result.stderr


def test_a_name_that_the_machine_does_not_run_is_wrong_use():
    result = run("mmx", "-m", "neurfield.cli.main", "doctor")
    names = ", ".join(_native.supported_isas())
    assert result.stderr == (
        f"neurfield: NEURFIELD_ISA: expected one of {names} on this machine, got 'mmx'; unset it for the best\n"
    )
    assert result.returncode == 2 and result.stdout == ""
