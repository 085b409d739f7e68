# SPDX-License-Identifier: Apache-2.0
"""What PNG files say of how they were packed."""

from pathlib import Path


def zlib_effort(path: Path) -> str:
    """FLEVEL of RFC 1950 in the second byte of the first IDAT: of zlib's levels 0 and 1, 2 ... 5, 6, and beyond."""
    data = path.read_bytes()
    return ("fastest", "fast", "default", "slow")[data[data.index(b"IDAT") + 5] >> 6]
