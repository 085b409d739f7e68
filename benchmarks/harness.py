# SPDX-License-Identifier: Apache-2.0
"""What every benchmark shares: timing with warm-up, median and spread; the description of the machine; JSON and table.

A benchmark makes `Row`s in one process and one run, so that their ratios hold although absolute figures move from
machine to machine. `report` prints them and writes benchmarks/results/NAME.json.
"""

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from neurfield import _native
from neurfield.training.device import cuda_build

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Row:
    """One measured thing.

    Attributes:
        name: what was timed.
        value, unit: the figure, e.g. 21.3 "Ms/s" (million samples per second) or 0.04 "s".
        spread: interquartile range of the repetitions over their median.
        roof: the machine's limit in the same unit, measured in the same run, or None.
        note: one clause that a reader needs.
    """

    name: str
    value: float
    unit: str
    spread: float = 0.0
    roof: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Timing:
    median: float
    spread: float
    repetitions: int


def time_calls(fn: Callable[[], object], seconds: float, warmup: int, at_least: int) -> list[float]:
    """Calls `fn` `warmup` times, then for about `seconds` and `at_least` times; seconds of each of those calls."""
    for _ in range(warmup):
        fn()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < at_least or time.perf_counter() < end:
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return times


def summarise(times: list[float]) -> Timing:
    quartiles = statistics.quantiles(times, n=4)
    median = statistics.median(times)
    return Timing(median, (quartiles[2] - quartiles[0]) / median, len(times))


def measure(fn: Callable[[], object], seconds: float = 2.0, warmup: int = 2, at_least: int = 5) -> Timing:
    """Seconds per call, see time_calls."""
    return summarise(time_calls(fn, seconds, warmup, at_least))


def throughput(name: str, n_samples: int, fn: Callable[[], object], **kwargs) -> Row:
    """Times `fn`, which handles `n_samples`; keyword arguments `roof` and `note` go to the row, others to measure."""
    row = {key: kwargs.pop(key) for key in ("roof", "note") if key in kwargs}
    timing = measure(fn, **kwargs)
    return Row(name, n_samples / timing.median / 1e6, "Ms/s", timing.spread, **row)


def _git(*words: str) -> str:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _cuda() -> dict[str, str]:
    """Driver and toolkits, where a GPU is used."""
    if not torch.cuda.is_available():
        return {}
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        driver = subprocess.run(query, capture_output=True, text=True, check=True).stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        driver = "unknown"
    return {"driver": driver, "kernels": cuda_build(), "torch_cuda": str(torch.version.cuda)}


def _cpu() -> str:
    """Name, family and model: the name alone ("AMD EPYC") need not tell the generation, and so the peak."""
    try:
        lines = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    name = facts.get("model name", platform.machine())
    return f"{name}, family {facts['cpu family']}, model {facts['model']}" if "cpu family" in facts else name


def machine() -> dict[str, str | int]:
    """What a figure needs beside it to mean something."""
    try:
        commit = _git("rev-parse", "--short=12", "HEAD")
        # the results of earlier benchmarks change nothing that is measured
        if _git("status", "--porcelain", "--untracked-files=no", ":/", f":(exclude){RESULTS}"):
            commit += "-dirty"
    except (OSError, subprocess.CalledProcessError):
        commit = os.environ.get("NEURFIELD_COMMIT", "unknown")  # a copy of the tree without .git
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count() or 0,
        "threads": torch.get_num_threads(),
        "isa": _native.isa,
        "gpu": device,
        **_cuda(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "commit": commit,
        # absolute paths are of no use on another machine
        "command": " ".join(Path(word).name if word.startswith("/") else word for word in sys.orig_argv),
        "date": time.strftime("%Y-%m-%d"),
    }


def print_table(title: str, rows: list[Row]) -> None:
    print(f"\n{title}")
    width = max(len(row.name) for row in rows)
    for row in rows:
        roof = f"  {100 * row.value / row.roof:5.1f} % of {row.roof:.4g}" if row.roof else ""
        note = f"  ({row.note})" if row.note else ""
        print(f"  {row.name:{width}}  {row.value:10.4g} {row.unit:8} ±{100 * row.spread:4.1f} %{roof}{note}")


def report(name: str, title: str, rows: list[Row], extra: dict | None = None) -> Path:
    """Prints the table and writes it with the description of the machine; returns the file."""
    print_table(title, rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    content = {"title": title, "machine": machine(), "rows": [asdict(row) for row in rows], **(extra or {})}
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path
