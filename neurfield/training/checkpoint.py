# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: one .safetensors file with a JSON header; written atomically, checked when read, nothing executed.

The header's `neurfield` entry holds the schema version and whatever plain values the writer adds (configuration, scene
normalisation, step, counters). A write goes to a temporary file in the same folder, is flushed to the disk and renamed,
so a reader sees the old file or the new one and never a part, whatever kills the process.
"""

import io
import json
import math
import os
import struct
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.files import atomic_write

SCHEMA_VERSION = 1
SUFFIX = ".safetensors"
_MAX_HEADER = 100 << 20  # bytes, the limit of the format
_MAX_DIMS = 64  # of a tensor, torch's
_DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def save(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Writes tensors and plain values.

    Args:
        path: file to create or to replace.
        tensors: by name, any device, any layout.
        header: values that JSON knows.

    Raises:
        MachineError: see atomic_write.
    """
    metadata = json.dumps({"schema_version": SCHEMA_VERSION, **header})
    table: dict[str, Any] = {"__metadata__": {"neurfield": metadata}}
    arrays = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    offset = 0
    for name, array in arrays.items():
        size = array.numel() * array.element_size()
        table[name] = {
            "dtype": _NAMES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + size],
        }
        offset += size
    text = json.dumps(table, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for array in arrays.values():
            file.write(array.reshape(-1).view(torch.uint8).numpy().data)


def load_header(path: Path) -> dict[str, Any]:
    """The header's values alone. Raises UserError like `load`."""
    with _open(path) as file:
        return _metadata(path, _table(path, file)[0])


def load(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Reads tensors (CPU) and header values of a checkpoint.

    Raises:
        UserError: no such file, truncated, or no neurfield checkpoint of a schema that this version reads.
    """
    with _open(path) as file:
        table, start = _table(path, file)
        header = _metadata(path, table)
        tensors = {
            name: _tensor(path, file, start, name, entry) for name, entry in table.items() if name != "__metadata__"
        }
    return tensors, header


def _open(path: Path) -> io.BufferedReader:
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: cannot read the checkpoint ({(error.strerror or str(error)).lower()})") from None


def _broken(path: Path, what: str) -> UserError:
    return UserError(f"{path}: not a whole neurfield checkpoint ({what}); use another file of its checkpoints folder")


def _table(path: Path, file: io.BufferedReader) -> tuple[dict[str, Any], int]:
    """The safetensors table and where the data starts, after checking it against the size of the file."""
    total = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    if len(prefix) < 8:
        raise _broken(path, f"{total} bytes")
    (length,) = struct.unpack("<Q", prefix)
    if length > min(_MAX_HEADER, total - 8):
        raise _broken(path, "no safetensors header, or truncated")
    try:
        table = json.loads(file.read(length))
        data = _end([entry["data_offsets"] for name, entry in table.items() if name != "__metadata__"])
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        raise _broken(path, "its header is no safetensors table") from None
    if data != total - 8 - length:
        raise _broken(path, f"{total - 8 - length} bytes of data where {data} are announced")
    return table, 8 + length


def _end(spans: list[list[int]]) -> int:
    """Where the data ends, each span of which begins where another ends, so that a file takes no more than its size."""
    end = 0
    for begin, after in sorted(map(tuple, spans)):
        if not (type(begin) is type(after) is int and end == begin <= after):
            raise ValueError
        end = after
    return end


def _metadata(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    try:
        header = json.loads(table["__metadata__"]["neurfield"])
        version = header["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _broken(path, "a safetensors file of another program") from None
    if version != SCHEMA_VERSION:
        raise UserError(
            f"{path}: checkpoint schema {version}, this version reads {SCHEMA_VERSION}; use a matching neurfield"
        )
    return header


def _tensor(path: Path, file: io.BufferedReader, start: int, name: str, entry: dict[str, Any]) -> Tensor:
    try:
        dtype, shape, (begin, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
        if len(shape) > _MAX_DIMS or not all(type(n) is int and 0 <= n < 1 << 63 for n in shape):
            raise ValueError
        if math.prod(shape) * dtype.itemsize != end - begin or math.prod(n or 1 for n in shape) >> 63:
            raise ValueError
    except (ValueError, TypeError, KeyError):
        raise _broken(path, f"tensor {name!r} has a wrong entry") from None
    data = torch.empty(end - begin, dtype=torch.uint8)
    file.seek(start + begin)
    if file.readinto(data.numpy().data) != end - begin:
        raise _broken(path, f"tensor {name!r} is cut off")
    return data.view(dtype).view(shape)
