# SPDX-License-Identifier: Apache-2.0
"""PyTorch operators over the native core, each with a fake implementation and a registered backward.

One file per operator, with the stem of its mathematics in csrc/math and of its oracle in neurfield/reference.
"""

from neurfield.ops.composite import Composite, composite
from neurfield.ops.frequency import frequency
from neurfield.ops.hash_grid import GridConfig, hash_grid
from neurfield.ops.spherical_harmonics import spherical_harmonics
from neurfield.ops.trunc_exp import trunc_exp

__all__ = ["Composite", "GridConfig", "composite", "frequency", "hash_grid", "spherical_harmonics", "trunc_exp"]
