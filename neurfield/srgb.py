# SPDX-License-Identifier: Apache-2.0
"""sRGB (IEC 61966-2-1): codes of 0 ... 1 for linear light, and back; NumPy arrays keep their kind of floats."""

from typing import Any

import numpy as np


def to_srgb(light: np.ndarray) -> np.ndarray[Any, Any]:
    """The codes of linear light of 0 ... 1."""
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def to_linear(codes: np.ndarray) -> np.ndarray[Any, Any]:
    """The linear light of codes of 0 ... 1."""
    return np.where(codes <= 0.04045, codes / 12.92, ((codes + 0.055) / 1.055) ** 2.4)
