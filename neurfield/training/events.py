# SPDX-License-Identifier: Apache-2.0
"""Scalars of a run: metrics.jsonl, and the event file that TensorBoard reads.

The event format is small (TFRecord framing around two protobuf messages), so that writing it here costs nothing at
start-up; importing TensorBoard's own writer takes seconds, which would come out of the training budget.
"""

import json
import struct
import time
from collections.abc import Mapping
from pathlib import Path

from neurfield.files import append


class ScalarLog:
    """Appends scalars of a step to both files of a run folder, which are open only while it writes."""

    def __init__(self, folder: Path):
        stamp = time.time()
        self._lines = folder / "metrics.jsonl"
        self._events = folder / f"events.out.tfevents.{int(stamp)}.neurfield"
        self._record(_double(1, stamp) + _bytes(3, b"brain.Event:2"))

    def write(self, step: int, scalars: Mapping[str, float]) -> None:
        """Adds `scalars` of `step`; non-finite values become null in the JSON line."""
        finite = {name: value if abs(value) < float("inf") else None for name, value in scalars.items()}
        append(self._lines, (json.dumps({"step": step, **finite}) + "\n").encode())
        values = b"".join(_bytes(1, _bytes(1, name.encode()) + _float(2, value)) for name, value in scalars.items())
        self._record(_double(1, time.time()) + _key(2, 0) + _varint(step) + _bytes(5, values))

    def _record(self, data: bytes) -> None:
        length = struct.pack("<Q", len(data))
        append(self._events, length + _masked_crc(length) + data + _masked_crc(data))


def _key(number: int, wire: int) -> bytes:
    return _varint(number << 3 | wire)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _double(number: int, value: float) -> bytes:
    return _key(number, 1) + struct.pack("<d", value)


def _float(number: int, value: float) -> bytes:
    return _key(number, 5) + struct.pack("<f", value)


def _bytes(number: int, value: bytes) -> bytes:
    return _key(number, 2) + _varint(len(value)) + value


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)  # CRC-32C, reflected
        table.append(value)
    return table


_CRC_TABLE = _crc_table()


def _masked_crc(data: bytes) -> bytes:
    """CRC-32C, rotated and offset as TFRecord wants it."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
