# SPDX-License-Identifier: Apache-2.0
import json

import pytest

from neurfield.training.events import ScalarLog


def test_both_files_hold_what_was_written(tmp_path):
    log = ScalarLog(tmp_path)
    log.write(16, {"train/psnr": 20.5, "train/loss": 0.25})
    log.write(300, {"train/psnr": float("nan")})
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 16, "train/psnr": 20.5, "train/loss": 0.25}, {"step": 300, "train/psnr": None}]


def test_tensorboard_reads_the_event_file(tmp_path):
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_file_loader")
    log = ScalarLog(tmp_path)
    log.write(70000, {"train/psnr": 20.5})
    (file,) = tmp_path.glob("events*")
    header, event = loader.LegacyEventFileLoader(str(file)).Load()  # checks both checksums of each record
    assert header.file_version == "brain.Event:2"
    assert (event.step, event.summary.value[0].tag, event.summary.value[0].simple_value) == (70000, "train/psnr", 20.5)
