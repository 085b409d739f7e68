# SPDX-License-Identifier: Apache-2.0
"""Where a run keeps its files: OUTPUT/EXPERIMENT/METHOD/TIME/{config.yaml, checkpoints/, metrics.jsonl, events...}."""

import contextlib
import glob
import itertools
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from neurfield.errors import UserError
from neurfield.files import cannot_write, check_readable
from neurfield.training.checkpoint import SUFFIX

CONFIG_FILE = "config.yaml"
ASIDE = ".distill"  # ends the folder of a distillation: a stage of the run beside it, and no run to be continued alone
BEFORE = ".before"  # ends the folder of a run that another is about to replace
MOVED = "moved-by-convert.txt"  # in such a folder
TIME_FORMAT = "%Y-%m-%d_%H%M%S"
_WRITTEN = (
    ".config.*.tmp.yaml", "frequency.json", "frequency.png", ".frequency.*.tmp.*", "metrics.jsonl",
    "events.out.tfevents.*", f"checkpoints/step-*{SUFFIX}", f"checkpoints/step-*{SUFFIX}.aside",
    f"checkpoints/.step-*.tmp{SUFFIX}",
    CONFIG_FILE, MOVED,  # the last to be removed: until then the folder is known for what it is
)  # fmt: skip


@dataclass(frozen=True)
class RunFolder:
    """The folder of one run; `by_time`: its name is the second it began, which another run may have begun in, too."""

    path: Path
    by_time: bool = False

    @property
    def config_path(self) -> Path:
        return self.path / CONFIG_FILE

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step-{step:09d}{SUFFIX}"

    def checkpoints(self) -> list[Path]:
        """Checkpoint files, oldest first. Temporary files of a killed process are none."""
        return sorted(self.path.glob(f"checkpoints/step-*{SUFFIX}"))

    @property
    def is_free(self) -> bool:
        """Whether nothing is there, or an empty folder."""
        return not self.path.exists() or (self.path.is_dir() and not any(self.path.iterdir()))

    def written(self) -> Iterator[Path]:
        """What lies in it and has a name that runs give."""
        return (path for pattern in _WRITTEN for path in self.path.glob(pattern))

    def others(self) -> Iterator[Path]:
        """What lies in it and no run has written."""
        known = {*self.written(), self.path / "checkpoints"}
        return (path for path in self.path.rglob("*") if path not in known)

    def clear(self) -> None:
        """Removes what runs have written in it.

        Raises:
            OSError: a file cannot be removed.
        """
        for path in self.written():
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it is not empty, or not there
            (self.path / "checkpoints").rmdir()

    def remove(self) -> None:
        """The same, and the folder where nothing is left in it; what cannot be removed stays."""
        with contextlib.suppress(OSError):
            self.clear()
            self.path.rmdir()

    def create(self) -> "RunFolder":
        """Makes the folder and gives it; where it is named by the time and there is one, NAME-2, NAME-3, ...

        Raises:
            UserError: it exists with something in it, or its place is no folder that can be written.
        """
        path = self.path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if self.by_time:
                (path,) = make_free(path)
            else:
                try:
                    path.mkdir()
                except FileExistsError:
                    if not self.is_free:
                        if not path.is_dir():
                            raise
                        way_out = "continue it with --resume or choose another --timestamp"
                        raise UserError(f"{path}: exists already; {way_out}") from None
            (path / "checkpoints").mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(path, error, "--output-dir") from None
        return RunFolder(path)

    @contextlib.contextmanager
    def removed_on_failure(self) -> Iterator[None]:
        """Takes away again what was written when the block fails and no checkpoint is there."""
        try:
            yield
        except BaseException:
            if not self.checkpoints():
                self.remove()
            raise

    def set_aside_after(self, path: Path) -> None:
        """Renames checkpoints newer than `path` to NAME.aside, so that the run goes on from `path`."""
        for newer in self.checkpoints():
            if newer.name > path.name:
                newer.rename(newer.with_name(f"{newer.name}.aside"))

    def prune(self, keep: int) -> None:
        """Removes all but the `keep` newest checkpoints, and temporary files that a killed process left."""
        stale = [*self.checkpoints()[:-keep], *self.path.glob(f"checkpoints/.step-*.tmp{SUFFIX}")]
        for path in stale:
            path.unlink(missing_ok=True)


def make_free(*paths: Path) -> list[Path]:
    """Makes the folders and gives them; where one of them is there, all are NAME-2, NAME-3, ..."""
    for n in itertools.count(1):
        named = [path.with_name(f"{path.name}-{n}") if n > 1 else path for path in paths]
        with contextlib.ExitStack() as undo:
            for path in named:
                path.parent.mkdir(parents=True, exist_ok=True)
                try:
                    path.mkdir()  # of several runs one makes it
                except FileExistsError:
                    break
                undo.callback(path.rmdir)
            else:
                undo.pop_all()
                return named
    raise AssertionError


def new_run(output_dir: Path, experiment: str, method: str, timestamp: str | None = None) -> RunFolder:
    """The folder of a run that starts now; nothing is written yet."""
    stamp = timestamp or time.strftime(TIME_FORMAT)
    for part in (experiment, method, stamp):
        if part in ("", ".", "..") or "/" in part or "\\" in part:
            raise UserError(f"{part!r} cannot be a folder name; experiment, method and timestamp are single names")
    return RunFolder(output_dir / experiment / method / stamp, by_time=timestamp is None)


def newest_run(output_dir: Path, experiment: str, method: str | None, timestamp: str | None = None) -> RunFolder:
    """The run to be continued: the newest with a checkpoint, among those of `method` and `timestamp` where given.

    Raises:
        UserError: there is none.
    """
    pattern = "/".join(glob.escape(part) if part else "*" for part in (experiment, method, timestamp))
    newest = _newest(output_dir.glob(f"{pattern}/"))
    if newest is None:
        check_readable(output_dir / experiment)
        raise UserError(
            f"{output_dir / pattern}: no run with a checkpoint to resume; start one without --resume, or "
            "name it by --output-dir and --experiment-name"
        )
    return newest


def _newest(folders: Iterable[Path]) -> RunFolder | None:
    """Of those of runs that have a checkpoint."""
    runs = [RunFolder(path) for path in folders if not path.name.endswith((ASIDE, BEFORE))]
    started = [run for run in runs if run.checkpoints()]
    return max(started, key=lambda run: (_begun(run), run.checkpoints()[-1].stat().st_mtime), default=None)


def _begun(run: RunFolder) -> tuple[float, int]:
    """Orders runs by when they began: by names TIME, TIME-2, ... TIME-10, and those of other names by the time in the
    name of their first events. Times of files would be those of a copy."""
    name, dash, n = run.path.name.rpartition("-")
    for stamp, number in ((run.path.name, 1), (name, int(n) if dash and n.isdecimal() else 1)):
        with contextlib.suppress(ValueError, OverflowError):
            return time.mktime(time.strptime(stamp, TIME_FORMAT)), number
    events = (path.name.split(".")[3] for path in run.path.glob("events.out.tfevents.*.*"))
    return min((int(second) for second in events if second.isdecimal()), default=0), 1


def find_checkpoint(run: Path) -> Path:
    """The checkpoint that RUN means: a file itself, or the newest of a run folder.

    Raises:
        UserError: nothing there, what may not be read, or a folder without checkpoints.
    """
    check_readable(run)
    if run.is_file() and SUFFIX in run.suffixes:  # also one that was set aside
        return run
    if not run.is_dir():
        raise UserError(
            f"{run}: {'not a run' if run.exists() else 'no such run'}; expected a run folder or a {SUFFIX} file"
        )
    found = RunFolder(run).checkpoints()
    if not found:
        check_readable(run / "checkpoints")
        way = run_below(run) or "; expected the folder that neurfield train names"
        raise UserError(f"{run}: no checkpoints/step-*{SUFFIX} in this folder{way}")
    return found[-1]


def run_below(folder: Path) -> str:
    """`"; did you mean RUN?"` of the newest run in a folder, or an empty string."""
    newest = _newest({path.parents[1] for path in folder.glob(f"**/checkpoints/step-*{SUFFIX}")})
    return f"; did you mean {newest.path}?" if newest else ""
