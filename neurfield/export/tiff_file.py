# SPDX-License-Identifier: Apache-2.0
"""TIFF files of 8 and 16 bits and of floats, which neither Pillow nor FFmpeg writes all."""

import struct

import numpy as np

from neurfield.data import tiff

MAX_BYTES = (1 << 32) - 1024  # places in the file are numbers of 32 bits
_SHORT, _LONG = (3, "H"), (4, "I")


def encoded(pixels: np.ndarray) -> bytes:
    """A file of one strip, not compressed.

    Args:
        pixels: `[height, width, 1, 3 or 4]`, uint8 or uint16 (sRGB codes) or float32 (linear), no more than MAX_BYTES;
            alpha is straight.
    """
    height, width, n_channels = pixels.shape
    form = tiff.FLOAT if pixels.dtype.kind == "f" else tiff.UNSIGNED
    (places, lengths), _ = tiff.PARTS
    fields = {
        tiff.WIDTH: (_LONG, [width]),
        tiff.HEIGHT: (_LONG, [height]),
        tiff.BITS: (_SHORT, [8 * pixels.itemsize] * n_channels),
        tiff.COMPRESSION: (_SHORT, [tiff.UNCOMPRESSED]),
        tiff.PHOTOMETRIC: (_SHORT, [tiff.BLACK_IS_ZERO if n_channels == 1 else tiff.RGB]),
        tiff.N_SAMPLES: (_SHORT, [n_channels]),
        tiff.ROWS_PER_STRIP: (_LONG, [height]),
        lengths: (_LONG, [pixels.nbytes]),
        tiff.SAMPLE_FORMAT: (_SHORT, [form] * n_channels),
    }
    if n_channels == 4:
        fields[tiff.EXTRA_SAMPLES] = (_SHORT, [tiff.STRAIGHT])
    behind = 8 + 2 + 12 * (len(fields) + 1) + 4  # values that an entry has no room for, then the pixels
    long = b""
    entries = {}
    for tag, ((kind, letter), values) in fields.items():
        value = struct.pack(f"<{len(values)}{letter}", *values)
        if len(value) > 4:
            value, long = struct.pack("<I", behind + len(long)), long + value
        entries[tag] = struct.pack("<HHI4s", tag, kind, len(values), value)
    entries[places] = struct.pack("<HHII", places, _LONG[0], 1, behind + len(long))
    head = struct.pack("<2sHIH", b"II", tiff.CLASSIC, 8, len(entries))
    sorted_entries = b"".join(entry for _, entry in sorted(entries.items()))
    data = np.ascontiguousarray(pixels, pixels.dtype.newbyteorder("<")).tobytes()
    return head + sorted_entries + bytes(4) + long + data
