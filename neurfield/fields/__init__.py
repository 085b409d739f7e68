# SPDX-License-Identifier: Apache-2.0
"""Radiance fields by the `otype` of their configuration. A new one is a file and a line here.

A configuration is a frozen dataclass with `otype` and `build(aabb, n_views)`, which makes the field, a RadianceModule,
for a box of unit space and a number of training views. Where the configuration alone says how large the field is, it
has `stored_shapes`, by name of the tensor.
"""

from collections.abc import Mapping

from torch import Tensor

from neurfield.fields.dynamic import DynamicConfig
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.fields.nerf import NerfConfig
from neurfield.fields.radiance_field import FieldConfig

AnyFieldConfig = FieldConfig | NerfConfig | KiloNerfConfig | DynamicConfig
DEFAULT = "grid"
FIELDS: dict[str, type[AnyFieldConfig]] = {
    "grid": FieldConfig,
    "nerf": NerfConfig,
    "kilonerf": KiloNerfConfig,
    "dynamic": DynamicConfig,
}


def check_stored(config: AnyFieldConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raises ValueError where a checkpoint's tensors are not those of its configuration; nothing is allocated."""
    for name, shape in getattr(config, "stored_shapes", {}).items():
        stored = tensors[f"field.{name}"].shape
        if tuple(stored) != tuple(shape):
            raise ValueError(f"field.{name}: expected {list(shape)} as its configuration says, got {list(stored)}")
