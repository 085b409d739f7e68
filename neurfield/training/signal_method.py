# SPDX-License-Identifier: Apache-2.0
"""What a method for signals is: field, loss and schedule, as frozen dataclasses that YAML presets fill in.

Presets are the files of scenes/signals (installed as neurfield.scenes.signals); docs/signals.md explains them.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from neurfield import config
from neurfield.config import Block
from neurfield.data.signals import READERS
from neurfield.errors import UserError
from neurfield.fields.signal_field import SignalFieldConfig
from neurfield.registry import lookup
from neurfield.training.method import BaseRunConfig, LoopConfig, OptimizerConfig, Positive, presets, signal_presets

SignalKind = Literal["image", "sdf", "occupancy", "video", "volume"]


@dataclass(frozen=True)
class SignalMethod:
    """A named preset for one kind of signal.

    `loss` is a block of the loss registry, on values in 0 ... 1 (distances in units of the box for `sdf`, logits for
    `occupancy`).
    """

    name: str = "image"
    kind: SignalKind = "image"
    field: SignalFieldConfig = dataclasses.field(default_factory=SignalFieldConfig)
    loss: Block = dataclasses.field(default_factory=lambda: Block(otype="L2"))
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: LoopConfig = dataclasses.field(default_factory=LoopConfig)


@dataclass(frozen=True)
class SignalRunConfig(BaseRunConfig):
    """A field of a single file."""

    kind: SignalKind = "image"
    max_megapixels: Positive = 64.0
    method: SignalMethod = dataclasses.field(default_factory=SignalMethod)


def load_signal_method(name: str, kind: str, overrides: tuple[str, ...] = ()) -> SignalMethod:
    """A preset by name, or a YAML file by path, with `dotted.key=value` overrides applied.

    Args:
        kind: of the data; a method may be for another kind that is read in the same way.

    Raises:
        UserError: unknown name, a file or override that does not fit, or a method for another kind of signal or scenes.
    """
    known = signal_presets()
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
    elif name in known:
        path = known[name]
    elif name in presets():
        raise UserError(f"the method {name!r} is for scenes of posed photos, the data is {kind}; leave --method out")
    else:  # only then is it worth to look into all of them
        kinds = {n: config.load(SignalMethod, file, known).kind for n, file in known.items()}
        path = lookup({n: known[n] for n in kinds if READERS[kinds[n]] is READERS[kind]}, name, f"{kind} method")
    method = config.override(config.load(SignalMethod, path, known), overrides)
    if READERS[method.kind] is not READERS[kind]:
        raise UserError(f"the method {name!r} is for {method.kind}, the data is {kind}; leave --method out")
    return method
