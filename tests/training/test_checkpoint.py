# SPDX-License-Identifier: Apache-2.0
"""Checkpoint files: exact, atomic, and refused when they are not whole."""

import errno
import json
import os
import struct

import pytest
import torch

from neurfield.errors import MachineError, UserError
from neurfield.training import checkpoint

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).view(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "bits": torch.tensor([1, 255], dtype=torch.uint8),
    "step": torch.tensor(7),
    "none": torch.empty(0, 4),
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "step-000000001.safetensors"
    checkpoint.save(path, TENSORS, {"step": 1})
    return path


def test_what_is_saved_comes_back(path):
    tensors, header = checkpoint.load(path)
    assert header == {"schema_version": 1, "step": 1} == checkpoint.load_header(path)
    assert tensors.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert tensors[name].dtype == value.dtype and torch.equal(tensors[name], value)


def test_the_safetensors_library_reads_the_file(path):
    from safetensors.torch import load_file

    assert torch.equal(load_file(path)["a"], TENSORS["a"])


def test_strided_tensors_are_saved_by_value(tmp_path):
    checkpoint.save(tmp_path / "x", {"t": TENSORS["a"].t()}, {})
    assert torch.equal(checkpoint.load(tmp_path / "x")[0]["t"], TENSORS["a"].t())


def test_every_truncation_is_refused(path, tmp_path):
    whole = path.read_bytes()
    for size in [0, 4, 8, 100, len(whole) - 1]:
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(UserError, match="not a whole neurfield checkpoint") as error:
            checkpoint.load(tmp_path / "cut")
        assert "\n" not in str(error.value)


def _with_table(table) -> bytes:
    text = json.dumps(table).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        b"PK\x03\x04 a zip of pickles, as torch.save writes it",
        b"\xff" * 64,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 2) + b"{}",
        _with_table({"__metadata__": {"format": "pt"}}),
        _with_table({"__metadata__": {"neurfield": '{"schema_version": 1}'}, "a": {"dtype": "F32"}}),
        _with_table(
            {
                "__metadata__": {"neurfield": '{"schema_version": 1}'},
                "a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 0]},
            }
        ),
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "foreign").write_bytes(content)
    with pytest.raises(UserError, match="not a whole neurfield checkpoint"):
        checkpoint.load(tmp_path / "foreign")


def _entry(shape, offsets, dtype="U8"):
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    "entries",
    [
        [_entry([4], [0, 4]), _entry([4], [0, 4])],  # of the same bytes, which would take memory twice
        [_entry([2], [0, 2]), _entry([2], [2, 4]), _entry([2], [1, 3])],
        [_entry([1], [0, 1]), _entry([2], [2, 4])],  # a hole
        [_entry([3], [1, 4])],
        [_entry([4.0], [0, 4])],
        [_entry([4], [0.0, 4.0])],
        [_entry([True, 4], [0, 4])],
        [_entry([4], [False, 4])],
        [_entry([0, 1 << 70], [0, 0]), _entry([4], [0, 4])],
        [_entry([0, 1 << 62, 4], [0, 0]), _entry([4], [0, 4])],
        [_entry([1] * 65 + [4], [0, 4])],
        [_entry([-2, -2], [0, 4])],
        [_entry("4", [0, 4])],
        [_entry(None, [0, 4])],
        [_entry([4], [0, 4], ["U8"])],
        [_entry([4], [0, 4, 4])],
        [_entry([4], "04")],
    ],
)
def test_entries_of_tensors_that_are_none_are_refused(tmp_path, entries):
    table = {"__metadata__": {"neurfield": '{"schema_version": 1}'}} | {f"t{i}": e for i, e in enumerate(entries)}
    (tmp_path / "crafted").write_bytes(_with_table(table) + bytes(4))
    with pytest.raises(UserError, match="not a whole neurfield checkpoint"):
        checkpoint.load(tmp_path / "crafted")


def test_a_header_that_nests_without_end_is_refused(tmp_path):
    header = '{"schema_version": 1, "config": ' + "[" * 100_000 + "]" * 100_000 + "}"
    (tmp_path / "deep").write_bytes(_with_table({"__metadata__": {"neurfield": header}}))
    with pytest.raises(UserError, match="not a whole neurfield checkpoint"):
        checkpoint.load_header(tmp_path / "deep")


def test_a_newer_schema_is_named(tmp_path):
    (tmp_path / "new").write_bytes(_with_table({"__metadata__": {"neurfield": '{"schema_version": 99}'}}))
    with pytest.raises(UserError, match="schema 99, this version reads 1"):
        checkpoint.load(tmp_path / "new")


def test_a_missing_file_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match="cannot read the checkpoint"):
        checkpoint.load(tmp_path / "none")


def test_a_full_disk_leaves_the_old_file_and_no_temporary(path, monkeypatch):
    before = path.read_bytes()

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MachineError, match=r"cannot write \(no space left on device\)"):
        checkpoint.save(path, {"a": torch.zeros(1000)}, {"step": 2})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_without_space_is_a_machine_error(tmp_path, monkeypatch):
    real = open
    monkeypatch.setattr(
        "builtins.open", lambda name, mode="r", **kw: real("/dev/full" if mode == "wb" else name, mode, **kw)
    )
    with pytest.raises(MachineError, match="no space left"):
        checkpoint.save(tmp_path / "x", {"a": torch.zeros(1000)}, {})
    assert not list(tmp_path.iterdir())
