# SPDX-License-Identifier: Apache-2.0
"""Losses against a target (blocks with the names of tiny-cuda-nn) and regularisers of the density along rays.

loss = losses.create({"otype": "Huber"})
loss(prediction, target).mean() + 1e-3 * losses.REGULARIZERS["opacity_entropy"](rays).mean()
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Annotated, Any, NamedTuple

from torch import Tensor

from neurfield.config import Range, read_block
from neurfield.losses import elementwise, regularizers
from neurfield.losses.depth import depth_agreement
from neurfield.losses.regularizers import distortion, opacity_entropy
from neurfield.ops import Composite

__all__ = ["LOSSES", "REGULARIZERS", "Loss", "create", "depth_agreement", "distortion", "opacity_entropy"]

Loss = Callable[[Tensor, Tensor], Tensor]  # prediction, target -> elementwise loss of the same shape


@dataclass(frozen=True)
class NoConfig:
    """A loss without keys."""


@dataclass(frozen=True)
class HuberConfig:
    alpha: Annotated[float, Range(1e-6)] = 0.1


class Entry(NamedTuple):
    """The keys of a block as a frozen dataclass, and the function that takes them as keyword arguments."""

    config: type
    function: Callable[..., Tensor]


LOSSES: dict[str, Entry] = {
    "L1": Entry(NoConfig, elementwise.l1),
    "L2": Entry(NoConfig, elementwise.l2),
    "Huber": Entry(HuberConfig, elementwise.huber),
    "RelativeL1": Entry(NoConfig, elementwise.relative_l1),
    "RelativeL2": Entry(NoConfig, elementwise.relative_l2),
    "RelativeL2Luminance": Entry(NoConfig, elementwise.relative_l2_luminance),
    "MAPE": Entry(NoConfig, elementwise.mape),
    "SMAPE": Entry(NoConfig, elementwise.smape),
    "BinaryCrossEntropy": Entry(NoConfig, elementwise.binary_cross_entropy),
    "CrossEntropy": Entry(NoConfig, elementwise.cross_entropy),
}

REGULARIZERS: dict[str, Callable[[Composite], Tensor]] = {
    "distortion": regularizers.distortion,
    "opacity_entropy": regularizers.opacity_entropy,
}


def create(config: Mapping[str, Any]) -> Loss:
    """The loss that a block describes: `loss(prediction, target)`, of one shape, gives one value per element.

    Args:
        config: `otype` (a name in LOSSES) and the keys of that type.

    Raises:
        UserError: no or unknown otype, unknown key, wrong type, value out of range. The loss raises ValueError for
            tensors of two shapes.
    """
    entry, keys = read_block(LOSSES, config, "loss")
    return partial(_of_one_shape, config["otype"], partial(entry.function, **asdict(keys)))


def _of_one_shape(otype: str, function: Loss, prediction: Tensor, target: Tensor) -> Tensor:
    """`[n, 1]` and `[n]`, say, would be broadcast to the differences of all pairs."""
    if prediction.shape != target.shape:
        raise ValueError(
            f"loss {otype}: expected a prediction and a target of one shape, "
            f"got {list(prediction.shape)} and {list(target.shape)}"
        )
    return function(prediction, target)
