# SPDX-License-Identifier: Apache-2.0
"""An earlier conversion, kept as NAME.before beside the one that is to replace it until that one is whole.

Only what a conversion has made is moved, and only what a conversion has moved is removed: a file in it says so. What
others have put there meanwhile stays.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from neurfield import config as configuration
from neurfield.errors import UserError
from neurfield.fields.kilonerf import KiloNerfConfig
from neurfield.files import cannot_write
from neurfield.training import checkpoint
from neurfield.training.method import RunConfig
from neurfield.training.run_folder import ASIDE, BEFORE, MOVED, RunFolder
from neurfield.training.stored import fitting


@dataclass(frozen=True)
class Earlier:
    """What an earlier conversion has left.

    Attributes:
        made: where its run is, and where the new one is to be.
        aside: the same of its distillation, which is removed when the run is whole.
    """

    made: RunFolder
    aside: RunFolder

    @staticmethod
    def beside(path: Path) -> "Earlier":
        """Of a conversion whose run is to be at `path`."""
        path = path.resolve()  # "." has no name
        return Earlier(RunFolder(path), RunFolder(path.parent / f"{path.name}{ASIDE}"))

    @property
    def folders(self) -> tuple[RunFolder, RunFolder]:
        return self.made, self.aside

    @property
    def kept(self) -> list[RunFolder]:
        """What is kept of it beside what replaces it."""
        return [_place(folder) for folder in self.folders if _is_kept(folder)]

    def check(self, overwrite: bool, resume: bool) -> None:
        """Whether a new conversion may start, go on or replace what is there.

        Raises:
            UserError: it may not, or something is there that no conversion has made or moved.
        """
        try:
            found = [folder for folder in self.folders if not folder.is_free]
            for folder in (*found, *(kept := self.kept)):
                _check_made(folder)
            if (found or kept) and not (overwrite or resume):
                raise UserError(
                    f"{self.made.path}: a conversion exists there; continue it with --resume, replace it with "
                    "--overwrite, or choose another --output"
                )
            for folder in found if overwrite else []:
                _check_replaceable(folder)
        except OSError as error:
            raise cannot_write(self.made.path, error) from None

    def holds(self, path: Path) -> bool:
        """Whether a file lies in what this conversion writes, moves or removes."""
        parents = path.resolve().parents
        return any(folder.path.resolve() in parents for folder in (*self.folders, *self.kept))

    def clear_unstarted(self) -> None:
        """Removes what a conversion has left that was killed before its first checkpoint."""
        for folder in self.folders:
            if not folder.checkpoints():
                folder.clear()

    @contextlib.contextmanager
    def moved(self) -> Iterator[None]:
        """Its folders are free in the block, and as before where that fails before its first checkpoint.

        Raises:
            UserError: see check, which is asked again.
            UserError, MachineError: a folder cannot be renamed; then none is.
        """
        self.check(overwrite=True, resume=False)
        found = any(folder.checkpoints() for folder in self.folders)
        kept_is_whole = _is_kept(self.made) and not _is_kept(self.aside)
        try:
            if found and (self._is_whole or not kept_is_whole):  # what is kept is the newest, or the newest whole one
                self.remove()
                self._move()
            else:
                for folder in self.folders:
                    folder.clear()
        except OSError as error:
            raise cannot_write(self.made.path, error) from None
        try:
            yield
        except BaseException:
            if not any(folder.checkpoints() for folder in self.folders):
                for folder in self.folders:
                    if _is_kept(folder):
                        with contextlib.suppress(OSError):  # the first failure is the one to tell
                            _put_back(folder)
            raise

    def settle(self) -> list[Path]:
        """The new run is whole: removes the distillation that it was made of, and what is kept.

        Returns:
            The folders that stay, for they hold what no conversion has made, or cannot be removed.
        """
        kept = self.kept
        with contextlib.suppress(UserError):  # one that no conversion has made
            _check_made(self.aside)
            self.aside.remove()  # first: without it the new one counts as whole
        self.remove()
        return [folder.path for folder in (self.aside, *kept) if folder.path.exists()]

    def remove(self) -> None:
        """Removes what is kept, as far as it can be."""
        for kept in self.kept:
            kept.remove()

    @property
    def _is_whole(self) -> bool:
        return bool(self.made.checkpoints()) and not self.aside.checkpoints()

    def _move(self) -> None:
        with contextlib.ExitStack() as undo:
            for folder in self.folders:
                if not folder.is_free:
                    place = _place(folder).path
                    folder.path.rename(place)
                    undo.callback(_put_back, folder)
                    (place / MOVED).write_bytes(_told(folder))
            undo.pop_all()


def _check_made(folder: RunFolder) -> None:
    checkpoints = folder.checkpoints()
    if not checkpoints:
        if folder.path.is_dir() and next(folder.others(), None) is None and _is_begun(folder):
            return  # a conversion that was killed before its first checkpoint, or in its removal
        raise UserError(
            f"{folder.path}: is there, and without a checkpoint of a conversion; move it away or choose another "
            "--output"
        )
    header = checkpoint.load_header(checkpoints[-1])
    with fitting(checkpoints[-1]):
        found, method = header["config"]["kind"], header["config"]["method"]
        found = method["field"]["otype"] if found == RunConfig.kind else found
    if found != KiloNerfConfig.otype:
        raise UserError(
            f"{folder.path}: holds a field of the kind {found}, which no conversion has made; choose another --output"
        )


def _is_begun(folder: RunFolder) -> bool:
    """Whether what a run has written there, without a checkpoint, is a conversion's by its configuration."""
    if (folder.path / MOVED).is_file() or next(folder.written(), None) is None:
        return True
    try:
        method = configuration.load(RunConfig, folder.config_path).method
    except UserError:
        return False
    return isinstance(method.field, KiloNerfConfig)


def _check_replaceable(folder: RunFolder) -> None:
    place = _place(folder).path
    if folder.path.is_symlink():
        raise UserError(f"{folder.path} is a link; give the folder it leads to as --output")
    if Path.cwd().is_relative_to(folder.path.resolve()):
        raise UserError(f"{folder.path} is in use: it is the working folder; work elsewhere or choose another --output")
    if other := next(folder.others(), None):
        raise UserError(
            f"{other}: no conversion has made that, and --overwrite removes the folder; move it away or choose another "
            "--output"
        )
    if (place.exists() or place.is_symlink()) and not _is_kept(folder):
        raise UserError(
            f"{place}: the earlier conversion would be kept there, and no conversion has moved what is there; "
            "move it away or choose another --output"
        )


def _place(folder: RunFolder) -> RunFolder:
    """Where it is kept."""
    return RunFolder(folder.path.parent / f"{folder.path.name}{BEFORE}")


def _is_kept(folder: RunFolder) -> bool:
    note = _place(folder).path / MOVED
    return note.is_file() and note.read_bytes() == _told(folder)


def _told(folder: RunFolder) -> bytes:
    """With the name, so that a copy under another one is no longer taken for what was moved."""
    return (
        f"neurfield convert has moved {folder.path.name} here and removes it when what replaces it is whole.\n".encode()
    )


def _put_back(folder: RunFolder) -> None:
    _place(folder).path.rename(folder.path)
    (folder.path / MOVED).unlink(missing_ok=True)
