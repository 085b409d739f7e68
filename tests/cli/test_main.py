# SPDX-License-Identifier: Apache-2.0
"""The command line's frame: help without torch, exit codes, one-line errors."""

import subprocess
import sys
import time

import pytest

from neurfield.cli.main import COMMANDS, main, repeat_flag


def test_help_lists_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (_, _, description) in COMMANDS.items():
        assert name in text and description in text


def test_help_names_every_format_of_data(capsys):
    from neurfield.data import FORMATS

    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in FORMATS)


def test_help_is_quick_and_loads_no_torch():
    code = "import sys; from neurfield.cli.main import main; main(['--help']); sys.exit('torch' in sys.modules)"
    start = time.monotonic()
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
    assert time.monotonic() - start < 1.0


@pytest.mark.parametrize(("arguments", "is_process"), [("", True), ("['doctor', '--help']", False)])
def test_garbage_is_looked_for_after_the_imports_but_not_in_them(arguments, is_process):
    """Where the command is the process: to look through torch's modules takes half a second of a short command."""
    code = (
        "import atexit, gc, sys; from neurfield.cli.main import main; sys.argv[1:] = ['doctor', '--help'];"
        f"atexit.register(lambda: print('garbage:', gc.isenabled(), gc.get_freeze_count() > 10000)); main({arguments})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.endswith(f"garbage: True {is_process}\n"), done.stdout + done.stderr


def test_the_interpreter_runs_the_package_as_the_command():
    done = subprocess.run([sys.executable, "-m", "neurfield", "trian"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stderr.startswith("neurfield: unknown command 'trian'")


def test_importing_the_package_loads_no_torch():
    code = "import sys, neurfield; dir(neurfield); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_no_command_is_wrong_use(capsys):
    assert main([]) == 2
    assert "usage" in capsys.readouterr().out


def test_version(capsys):
    import neurfield

    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"neurfield {neurfield.__version__}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("trian D", "unknown command 'trian', did you mean 'train'? (valid: train, "),
        ("export meshh R --output m.glb", "unknown export command 'meshh', did you mean 'mesh'? (valid: mesh, "),
        ("data inf D", "unknown data command 'inf', did you mean 'info'? (valid: info, "),
    ],
)
def test_an_unknown_command_names_the_nearest(words, expected, capsys):
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"neurfield: {expected}") and error.count("\n") == 1


@pytest.mark.parametrize(("command", "inner"), [("export", "cameras"), ("data", "download")])
def test_a_command_that_has_commands_lists_them(command, inner, capsys):
    assert [main([command]), main([command, "--help"])] == [2, 0]
    lines = capsys.readouterr().out.splitlines()
    assert lines.count(f"usage: neurfield {command} COMMAND [OPTIONS]") == 2
    assert sum(line.startswith(f"  {inner}  ") for line in lines) == 2


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("D --set a=1 b=2 --seed 3", "D --set a=1 --set b=2 --seed 3"),
        ("--set a=1 D", "--set a=1 D"),
        ("--set a=1 --set b=2 D", "--set a=1 --set b=2 D"),
        ("D --set", "D --set"),
        ("D x=1", "D x=1"),
    ],
)
def test_set_takes_several_values_and_no_positionals(given, expected):
    assert " ".join(repeat_flag(given.split(), "--set")) == expected


def test_an_option_that_may_be_left_out_is_shown_like_any_other(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "--method STR" in text and "--offset [FLOAT" in text and "{None}" not in text
    assert "(default: None)" not in text and "(default: outputs)" in text


def test_the_text_of_an_option_flows_whatever_lines_the_source_has(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    text = capsys.readouterr().out
    assert "lists the presets. Default: on a GPU" in text and "for images, videos and volumes, short" in text
