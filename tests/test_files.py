# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all, and the folders that are never replaced."""

import errno
import os
from pathlib import Path

import pytest

from neurfield.errors import MachineError, UserError
from neurfield.files import atomic_folder, refuse_existing

MARKER = "frames.json"


def made(path: Path, content: str) -> Path:
    path.mkdir()
    (path / MARKER).write_text(content)
    return path


def test_a_folder_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = made(tmp_path / "out", "old")
    refuse_existing(path, True, MARKER)
    with atomic_folder(path) as folder:
        (folder / MARKER).write_text("new")
        assert (path / MARKER).read_text() == "old"
    assert (path / MARKER).read_text() == "new" and list(tmp_path.iterdir()) == [path]


def test_the_old_folder_stays_when_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, replace = made(tmp_path / "out", "old"), os.replace

    def fails(source: Path, target: Path) -> None:
        if Path(source).suffix == ".tmp":
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(MachineError, match="cannot write"), atomic_folder(path) as folder:
        (folder / MARKER).write_text("new")
    assert (path / MARKER).read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    path, link = made(tmp_path / "out", "old"), tmp_path / "link"
    link.symlink_to(path)
    with atomic_folder(link) as folder:
        (folder / MARKER).write_text("new")
    assert link.is_symlink() and (path / MARKER).read_text() == "new"


@pytest.mark.parametrize("name", [".", "..", "../data", "/"])
def test_the_current_folder_is_not_replaced(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path / "data", "old")
    (tmp_path / MARKER).write_text("old")
    monkeypatch.chdir(tmp_path / "data")
    with pytest.raises(UserError, match=r"exists and (is in use|holds no)|may not be written"):
        refuse_existing(Path(name), True, MARKER)


@pytest.mark.parametrize("marker", [None, MARKER])
def test_kinds_are_not_mixed_up(marker: str | None, tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.mkdir() if marker is None else path.write_text("mine")
    with pytest.raises(UserError, match=f"is a {'folder' if marker is None else 'file'}; choose another"):
        refuse_existing(path, True, marker)


def test_an_empty_folder_may_be_filled(tmp_path: Path) -> None:
    refuse_existing(tmp_path, False, MARKER)
    with atomic_folder(tmp_path) as folder:
        (folder / MARKER).write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == [MARKER]
