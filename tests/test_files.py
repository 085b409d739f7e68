# SPDX-License-Identifier: Apache-2.0
"""Files and folders that appear complete or not at all, and the folders that are never replaced."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from neurfield.errors import MachineError, UserError
from neurfield.files import atomic_folder, atomic_path, read_bytes, refuse_existing

MARKER = "frames.json"


def made(path: Path, content: str) -> Path:
    path.mkdir()
    (path / MARKER).write_text(content)
    return path


def test_a_writer_that_fails_is_told_of_by_the_name_that_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=r"^a\.exr: cannot write a\.exr$"), atomic_path(tmp_path / "a.exr") as path:
        raise MachineError(f"{path.name}: cannot write {path.name}")


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


def test_what_a_killed_process_left_is_removed_by_the_next_and_what_one_still_makes_is_not(tmp_path: Path) -> None:
    path = tmp_path / "o.t[1]"
    program = (
        "import sys, time, pathlib, neurfield.files as f\n"
        "with f.atomic_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    (folder / 'half').write_text('made')\n"
        "    print(folder, flush=True)\n"
        "    time.sleep(60)\n"
    )
    command = [sys.executable, "-c", program, str(path)]
    (tmp_path / ".o.t[1].mine.tmp").mkdir()
    (tmp_path / ".o.t[1].12.tmp").write_text("a file")
    with (
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as killed,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as living,
    ):
        try:
            left, held = (Path(process.stdout.readline().strip()) for process in (killed, living) if process.stdout)
            killed.kill()
            killed.wait()
            assert left.parent == held.parent == tmp_path and (left / "half").is_file()
            with atomic_folder(path) as folder:
                (folder / MARKER).write_text("new")
            assert not left.exists() and (held / "half").is_file()
        finally:
            killed.kill()
            living.kill()
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, held.name, ".o.t[1].mine.tmp", ".o.t[1].12.tmp"}


@pytest.mark.parametrize("call", ["shutil.rmtree", "os.replace"])
def test_what_a_killed_process_had_replaced_goes_when_there_is_something_new(call: str, tmp_path: Path) -> None:
    fcntl, path = pytest.importorskip("fcntl"), made(tmp_path / "out", "old")
    program = (
        "import os, shutil, signal, sys, pathlib, neurfield.files as f\n"
        "with f.atomic_folder(pathlib.Path(sys.argv[1])) as folder:\n"
        "    real, dies = os.replace, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    moves = lambda source, target: real(source, target) if str(target).endswith('.old') else dies()\n"
        f"    {call} = {'dies' if call == 'shutil.rmtree' else 'moves'}\n"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == -9
    (old,) = tmp_path.glob(".out.*.old")
    held = made(tmp_path / ".out.1.old", "of a process that lives")
    descriptor = os.open(held, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    with pytest.raises(KeyboardInterrupt), atomic_folder(path):
        raise KeyboardInterrupt
    assert (old / MARKER).read_text() == "old" and path.exists() == (call == "shutil.rmtree")
    with atomic_folder(path) as folder:
        (folder / MARKER).write_text("new")
    os.close(descriptor)
    assert sorted(tmp_path.iterdir()) == [held, path]


def test_a_link_to_a_folder_stays_a_link(tmp_path: Path) -> None:
    path, link = made(tmp_path / "out", "old"), tmp_path / "link"
    link.symlink_to(path)
    with atomic_folder(link) as folder:
        (folder / MARKER).write_text("new")
    assert link.is_symlink() and (path / MARKER).read_text() == "new"


def test_a_file_is_written_through_a_link_that_stays(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    link, target = tmp_path / "scene.GLB", tmp_path / "disk" / "a.bin"
    link.symlink_to(target)
    for content in ("first", "second"):
        with atomic_path(link) as temporary:
            assert temporary.parent == target.parent and temporary.suffix == ".glb"
            temporary.write_text(content)
        assert link.is_symlink() and target.read_text() == content
    assert list((tmp_path / "disk").iterdir()) == [target]


def test_a_link_that_leads_to_itself_is_no_trace(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "a")
    with atomic_path(tmp_path / "a") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a").read_text() == "new"


@pytest.mark.parametrize("marker", [None, MARKER])
def test_no_file_or_folder_takes_the_place_of_a_device_or_a_pipe(marker: str | None, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    for path in (tmp_path / "pipe", tmp_path / "link", Path(os.devnull)):
        with pytest.raises(UserError, match=r"is a device or a pipe, no file; choose another|may not be written"):
            refuse_existing(path, True, marker)


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


def test_what_a_file_holds(tmp_path: Path) -> None:
    (tmp_path / "full").write_bytes(bytes(2 << 20))
    assert read_bytes(tmp_path / "full", 2 << 20) == bytes(2 << 20)
    with pytest.raises(UserError, match=r"full: 2\.0 MiB are too much, 1\.0 MiB are read at most$"):
        read_bytes(tmp_path / "full", 1 << 20)
    with pytest.raises(UserError, match=r"absent: cannot read the file \(No such file or directory\)$"):
        read_bytes(tmp_path / "absent", 1 << 20)
