# SPDX-License-Identifier: Apache-2.0
"""kill -9 at any moment: every checkpoint that is there is whole, and the run goes on from it."""

import signal
import subprocess
import sys
import time

from neurfield.training import checkpoint
from neurfield.training.run_folder import RunFolder

_PROGRAM = """
import dataclasses, sys
from pathlib import Path
from neurfield.training.run_folder import RunFolder
from neurfield.training.session import Session
from neurfield.training.view_set import ViewSet
from tests.scenes import ball_scene, radiance_trainer
from tests.training.test_trainer import small_config

config = dataclasses.replace(small_config(steps=10**9), seconds_per_save=1e-6)  # saves after every step
scene, folder = ball_scene(n_train=3, size=16), RunFolder(Path(sys.argv[1]))
found = folder.checkpoints()
Session(radiance_trainer(scene, config), ViewSet.of_scene(scene), folder, found[-1] if found else None).train()
"""


def test_kill_leaves_whole_checkpoints_and_the_run_continues(tmp_path):
    folder, steps = RunFolder(tmp_path / "run"), [0]
    for delay in (0.05, 0.113, 0.2):  # after the first new checkpoint
        process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(folder.path)])
        deadline = time.monotonic() + 60
        while newest(folder) <= steps[-1] and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(delay)
        assert process.poll() is None, "the training ended by itself"
        process.send_signal(signal.SIGKILL)
        process.wait()
        for path in folder.checkpoints():
            _, header = checkpoint.load(path)
            assert path == folder.checkpoint_path(header["counters"]["step"])
        steps.append(newest(folder))
    assert steps == sorted(set(steps)), f"no progress over restarts: {steps}"


def newest(folder: RunFolder) -> int:
    found = folder.checkpoints()
    return int(found[-1].stem.removeprefix("step-")) if found else 0
