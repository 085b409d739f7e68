# SPDX-License-Identifier: Apache-2.0
"""An earlier conversion, kept as NAME.before beside the one that is to replace it until that one is whole."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from neurfield.files import cannot_write
from neurfield.training.run_folder import BEFORE, RunFolder


@dataclass(frozen=True)
class Earlier:
    """What an earlier conversion has left.

    Attributes:
        folders: where it was made, and where the new one is to be.
    """

    folders: tuple[RunFolder, ...]

    @property
    def kept(self) -> list[RunFolder]:
        """What is kept of it beside what replaces it."""
        return [kept for folder in self.folders if (kept := _kept(folder)).path.exists()]

    @contextmanager
    def moved(self) -> Iterator[None]:
        """Its folders are free in the block, and as before where that fails before its first checkpoint.

        Raises:
            UserError, MachineError: a folder cannot be renamed.
        """
        try:
            if self.kept:  # beside it is only what never came to its end
                self._clear()
            else:
                for folder in self.folders:
                    if folder.path.exists():
                        folder.path.rename(_kept(folder).path)
        except OSError as error:
            raise cannot_write(self.folders[0].path, error) from None
        try:
            yield
        except BaseException:
            if not any(folder.checkpoints() for folder in self.folders):
                self._clear()
                for folder in self.folders:
                    if _kept(folder).path.exists():
                        _kept(folder).path.rename(folder.path)
            raise

    def remove(self) -> None:
        for kept in self.kept:
            shutil.rmtree(kept.path, ignore_errors=True)

    def _clear(self) -> None:
        for folder in self.folders:
            shutil.rmtree(folder.path, ignore_errors=True)


def _kept(folder: RunFolder) -> RunFolder:
    return RunFolder(folder.path.with_name(folder.path.name + BEFORE))
