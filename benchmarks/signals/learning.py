# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks of methods for signals share: trainings of a number of steps, and their PSNR over all pixels.

They run where `train` would: on CUDA where it can be used; with NEURFIELD_CUDA=0 on the CPU.
"""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.harness import RESULTS, machine
from neurfield import config as configuration
from neurfield.data.signals.grid import GridSignal
from neurfield.fields.signal_field import SignalField, grid_positions
from neurfield.training import checkpoint
from neurfield.training.device import resolve_device
from neurfield.training.grid_evaluation import evaluate_grid
from neurfield.training.grid_task import GridTask
from neurfield.training.signal_method import SignalMethod, SignalRunConfig, load_signal_method
from neurfield.training.trainer import Trainer


def learn(
    signal: GridSignal,
    method: str | SignalMethod,
    steps: int,
    overrides: Sequence[str] = (),
    known: Tensor | None = None,
    seed: int = SignalRunConfig.seed,
) -> tuple[SignalField, float]:
    """The field after so many steps, and the seconds that they took (of a machine that others may use, too)."""
    trainer = _trainer(signal, method, steps, overrides, known, seed)
    start = time.monotonic()
    trainer.train()
    return trainer.task.field, time.monotonic() - start


def learn_until(
    end: float,
    state: Path,
    signal: GridSignal,
    method: str | SignalMethod,
    steps: int,
    overrides: Sequence[str] = (),
    known: Tensor | None = None,
) -> SignalField | None:
    """The same, begun or continued; None where time.monotonic() reaches `end` before: `state` keeps what there is.

    A state of other settings is refused.
    """
    trainer = _trainer(signal, method, steps, overrides, known)
    settings = configuration.dumps(trainer.config)
    if state.exists():
        tensors, header = checkpoint.load(state)
        if header["settings"] != settings:
            raise SystemExit(f"{state} is of a training with other settings; remove it, or name another --output")
        trainer.load(tensors, header["counters"])
    trainer.train(lambda report: trainer.end() if time.monotonic() >= end else None)
    if trainer.progress == 1:
        state.unlink(missing_ok=True)
        return trainer.task.field
    state.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(state, trainer.tensors(), {"counters": trainer.counters(), "settings": settings})
    if trainer.interrupted:
        raise SystemExit(f"interrupted; the same command continues from {state}")
    return None


def _trainer(
    signal: GridSignal,
    method: str | SignalMethod,
    steps: int,
    overrides: Sequence[str],
    known: Tensor | None,
    seed: int = SignalRunConfig.seed,
) -> Trainer:
    if isinstance(method, str):
        method = load_signal_method(method, "image")
    config = SignalRunConfig(
        method=configuration.override(method, overrides), max_num_iterations=steps, seed=seed,
        device=resolve_device("auto"),
    )  # fmt: skip
    return Trainer(GridTask(signal, config, known), config)


def psnr(field: SignalField, signal: GridSignal) -> float:
    return evaluate_grid(field, signal)["psnr"]


@torch.no_grad()
def psnr_at(field: SignalField, signal: GridSignal, index: Tensor) -> float:
    """PSNR over some of the samples."""
    values = field(grid_positions(index, signal.info.sizes)).clamp(0, 1)
    target = torch.from_numpy(signal.normalized(signal.rows()))[index]
    return -10 * math.log10(float((values - target).double().square().mean()))


def some_of(signal: GridSignal, part: float, seed: int = 1) -> Tensor:
    """Indices of a random part of the samples."""
    n = signal.info.n_samples
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))[: round(part * n)].sort().values


def drawn(field: SignalField, signal: GridSignal) -> Image.Image:
    """The picture that a field holds."""
    info = signal.info
    with torch.no_grad():
        values = field(grid_positions(torch.arange(info.n_samples), info.sizes)).clamp(0, 1)
    return Image.fromarray((values.numpy() * 255).round().astype(np.uint8).reshape(*info.sizes, info.n_channels))


def side_by_side(path: Path, images: Sequence[Image.Image]) -> None:
    """Saves pictures of one size beside each other."""
    width, height = images[0].size
    whole = Image.new("RGB", (len(images) * (width + 4) - 4, height), "white")
    for k, image in enumerate(images):
        whole.paste(image.convert("RGB"), (k * (width + 4), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole.save(path)


def save(name: str, title: str, protocol: str, results: object, calls: Sequence[dict[str, Any]] = ()) -> None:
    """Writes results/NAME.json; see Kept for `calls`."""
    content = {"title": title, "machine": machine(), "protocol": protocol, "results": results}
    if calls:
        content["calls"] = calls
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(f"written: {name}.json")


class Kept:
    """A result's file to which several calls add under one protocol: whose rows are whose stands in its `calls`.

    Attributes:
        results: what the file has of this protocol, `{}` if nothing.
    """

    def __init__(self, name: str, title: str, protocol: str) -> None:
        path = RESULTS / f"{name}.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        if before.get("protocol") != protocol:
            before = {}
        self.name, self.title, self.protocol = name, title, protocol
        self.results: Any = before.get("results", {})
        self._calls: list[dict[str, Any]] = before.get("calls", [])
        now = machine()
        self._now: dict[str, Any] = {key: now[key] for key in ("commit", "command", "date")} | {"rows": []}

    def measured(self, row: str) -> None:
        """Notes a row as of this call, and of no other."""
        for call in self._calls:
            call["rows"] = [other for other in call["rows"] if other != row]
        self._now["rows"].append(row)

    def save(self, results: object) -> None:
        """Writes the file."""
        calls = [call for call in (*self._calls, self._now) if call["rows"]]
        save(self.name, self.title, self.protocol, results, calls)
