# SPDX-License-Identifier: Apache-2.0
"""No preset changes unseen: all of them, with the values of their bases and defaults, against presets.yaml.

python -m tests.training.test_presets      # renews it, after a change that is meant
"""

import difflib
from pathlib import Path

import yaml

from neurfield import config
from neurfield.training.method import load_method, presets, signal_presets
from neurfield.training.signal_method import SignalMethod

SNAPSHOT = Path(__file__).with_name("presets.yaml")


def resolved() -> str:
    """All presets as YAML, a line for each block of plain values."""
    signals = signal_presets()
    methods = {name: load_method(name) for name in presets()}
    methods |= {f"signals/{name}": config.load(SignalMethod, path, signals) for name, path in signals.items()}
    values = {name: config.to_dict(methods[name]) for name in sorted(methods)}
    return yaml.safe_dump(values, sort_keys=False, default_flow_style=None, width=10_000)


def test_presets_are_those_of_the_snapshot() -> None:
    before = SNAPSHOT.read_text(encoding="utf-8")
    changes = difflib.unified_diff(before.splitlines(), resolved().splitlines(), "snapshot", "now", lineterm="", n=9)
    text = "\n".join(changes)
    assert not text, (
        "presets have changed. Those that only inherit a change which is not for them need a value of their own; then "
        "say the change in CHANGELOG.md and renew the snapshot: python -m tests.training.test_presets\n" + text
    )


if __name__ == "__main__":
    SNAPSHOT.write_text(resolved(), encoding="utf-8")
