# SPDX-License-Identifier: Apache-2.0
"""Radiance fields by the `otype` of their configuration. A new one is a file and a line here.

A configuration is a frozen dataclass with `otype` and `build(aabb, n_views)`, which makes the field, a RadianceModule,
for a box of unit space and a number of training views.
"""

from neurfield.fields.dynamic import DynamicConfig
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.fields.nerf import NerfConfig
from neurfield.fields.radiance_field import FieldConfig
from neurfield.fields.surface import SurfaceConfig

AnyFieldConfig = FieldConfig | NerfConfig | KiloNerfConfig | DynamicConfig | SurfaceConfig
DEFAULT = "grid"
FIELDS: dict[str, type[AnyFieldConfig]] = {
    "grid": FieldConfig,
    "nerf": NerfConfig,
    "kilonerf": KiloNerfConfig,
    "dynamic": DynamicConfig,
    "surface": SurfaceConfig,
}
