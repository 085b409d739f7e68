# SPDX-License-Identifier: Apache-2.0
"""Finds the cameras of photos in a process of its own, which may be interrupted, and may die, without harm to ours."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable

from neurfield.data.capture.report import CaptureReport, SfmJob
from neurfield.errors import MachineError, UserError

StageProgress = Callable[[str, float], None]
STAGES = ("features", "matches", "cameras")
_LAST_WORDS = 300  # characters of a process that died
_LITTLE_ROOM = 64 << 20  # bytes: pycolmap does not say that its database had no room


def require_pycolmap() -> None:
    """Raises UserError where pycolmap is not installed."""
    if importlib.util.find_spec("pycolmap") is None:
        raise UserError("finding the cameras of photos needs pycolmap; pip install 'neurfield[photos]'")


def find_cameras(job: SfmJob, progress: StageProgress) -> CaptureReport:
    """Places the photos of a job; the parts lie in `job.parts` afterwards.

    Args:
        progress: told a stage of STAGES and how far it is.

    Raises:
        UserError: no photos could be placed, with the reasons. MachineError: the process died.
    """
    # it finds the modules that we find, and none in the folder it is started from, which may be that of the photos
    command = [sys.executable, "-P", "-m", "neurfield.data.capture.structure_from_motion", str(job.file)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    job.file.write_text(job.dumps(), encoding="utf-8")
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            for line in process.stdout:
                stage, _, fraction = line.partition(" ")
                if stage in STAGES:  # a library may print something else there
                    progress(stage, float(fraction))
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        errors.seek(0)
        words = errors.read().decode(errors="replace").strip().splitlines()
    if code != 0 or not job.report.is_file():
        last = words[-1][-_LAST_WORDS:] if words else "it said nothing"
        if code == -signal.SIGKILL:
            last = "killed, as the system does where memory runs out; process fewer or smaller photos"
        free = shutil.disk_usage(job.work).free
        room = f"; {free / 2**20:.0f} MiB are left on the disk of the output" if free < _LITTLE_ROOM else ""
        raise MachineError(f"the search for cameras ended early, with exit code {code}: {last}{room}")
    report = CaptureReport.parse(job.report.read_text(encoding="utf-8"))
    if not report.placed:
        reasons = "; ".join(report.lines_of_unplaced())
        raise UserError(
            f"none of the {report.n_photos} photos could be placed ({reasons}); photos must be sharp and taken from "
            "different places, each showing much of what its neighbours show"
        )
    return report
