# SPDX-License-Identifier: Apache-2.0
"""PyTorch operators over the native core, each with a fake implementation and a registered backward.

One file per operator, with the stem of its mathematics in csrc/math and of its oracle in neurfield/reference.
"""

from neurfield.ops.frequency import frequency

__all__ = ["frequency"]
