# SPDX-License-Identifier: Apache-2.0
"""Runs the operator benchmarks one after the other: `python -m benchmarks.run [NAME ...]`, default all."""

import importlib
import sys
from pathlib import Path

from neurfield.ops._common import native_threads


def main(names: list[str]) -> None:
    folder = Path(__file__).parent / "ops"
    known = sorted(path.stem.removeprefix("bench_") for path in folder.glob("bench_*.py"))
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"unknown benchmark {', '.join(sorted(unknown))}; there are: {', '.join(known)}")
    native_threads()  # the machine's limits are measured on as many threads as the operators use
    for name in names or known:
        importlib.import_module(f"benchmarks.ops.bench_{name}").main()


if __name__ == "__main__":
    main(sys.argv[1:])
