# SPDX-License-Identifier: Apache-2.0
"""The `neurfield` command: a table of commands, each in a module that is imported only when it is asked for.

A command module has a frozen dataclass of options and `run(options) -> int`; the table names the class. One with
commands of its own has a table of them instead, name: (options, run). Errors become one line on stderr and an exit
code: 0 done, 2 wrong use or bad input, 1 a fault of the machine.
"""

import contextlib
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module

from neurfield import __version__
from neurfield.errors import MachineError, UserError, is_out_of_memory
from neurfield.registry import lookup
from neurfield.stop_signals import REPEATED, stop_signals

# name: (module, class of its options or table of its commands, help)
COMMANDS = {
    "train": ("neurfield.cli.train", "TrainOptions", "fit a field to a scene"),
    "eval": ("neurfield.cli.eval", "EvalOptions", "measure a trained run: PSNR, SSIM"),
    "render": ("neurfield.cli.render", "RenderOptions", "pictures and videos of a trained run"),
    "convert": ("neurfield.cli.convert", "ConvertOptions", "turn a trained run into another kind of field"),
    "export": ("neurfield.cli.export", "COMMANDS", "a mesh, points, a web page or the cameras of a trained run"),
    "view": ("neurfield.cli.view", "ViewOptions", "a run, or a data set, in the browser"),
    "process": ("neurfield.cli.process", "ProcessCommandOptions", "photos or a video to a data set with cameras"),
    "data": ("neurfield.cli.data", "COMMANDS", "make, download and inspect data sets"),
    "doctor": ("neurfield.cli.doctor", "DoctorOptions", "what is installed, what is used, and a self-test"),
}


def usage(program: str, about: str, commands: Mapping[str, str]) -> str:
    """The help of a table of commands, name: what it does."""
    width = max(map(len, commands))
    lines = [f"usage: {program} COMMAND [OPTIONS]", "", about, "", "commands:"]
    lines += [f"  {name:{width}}  {text}" for name, text in commands.items()]
    return "\n".join([*lines, "", f"{program} COMMAND --help shows the options of a command."])


def _asks_for_help(words: Sequence[str]) -> bool:
    return not words or words[0] in ("-h", "--help", "help")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line (default: that of the process) and returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
    if _asks_for_help(words):
        about = "Trains, measures, renders and exports neural fields."
        print(usage("neurfield", about, {name: text for name, (_, _, text) in COMMANDS.items()}))
        print("neurfield --version")
        return 0 if words else 2
    if words[0] == "--version":
        print(f"neurfield {__version__}")
        return 0
    warnings.filterwarnings("ignore", module=r"PIL\.")  # on what photos say of themselves that is not used
    try:
        with _terminable():
            return _dispatch(words[0], words[1:], arguments is None)
    except (UserError, MachineError) as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 1)
    except BrokenPipeError:
        # the reader of our output has left, which is no fault; the interpreter must not flush into the closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if is_out_of_memory(error):
            return _fail("out of memory; use a smaller method, image size or resolution", 1)
        if isinstance(error, OSError):
            is_denied = isinstance(error, PermissionError) and error.filename  # to the user, of a file that was given
            reason = (error.strerror or str(error)).lower()
            return _fail(f"{error.filename or 'the system'}: {reason}", 2 if is_denied else 1)
        raise


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Every signal that asks to end is what Ctrl-C is: nothing half-written stays."""
    if threading.current_thread() is not threading.main_thread():  # no other may say what signals do
        yield
        return

    def end(kind: int, frame: object) -> None:
        if kind == REPEATED:
            signal.signal(kind, signal.SIG_IGN)
        raise KeyboardInterrupt

    kinds = [kind for kind in stop_signals() if kind is not signal.SIGINT]
    old = {kind: signal.signal(kind, end) for kind in kinds}
    try:
        yield
    finally:
        for kind in kinds:
            signal.signal(kind, old[kind] if old[kind] is not None else signal.SIG_DFL)


@contextlib.contextmanager
def _uncollected(forever: bool) -> Iterator[None]:
    """What is imported here stays: to look for garbage in it takes time. `forever`: at the end of the process, too."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if forever:
            gc.freeze()
        if before:
            gc.enable()


def _fail(message: str, code: int) -> int:
    print("neurfield: " + " ".join(message.split()), file=sys.stderr)
    return code


def _dispatch(command: str, words: list[str], is_process: bool) -> int:
    module_name, attribute, about = lookup(COMMANDS, command, "command")
    with _uncollected(is_process):
        module = import_module(module_name)
        import tyro

        from neurfield.cli._optional import REGISTRY

    program, found = f"neurfield {command}", getattr(module, attribute)
    if isinstance(found, dict):
        if _asks_for_help(words):
            print(usage(program, f"{about.capitalize()}.", {name: inner[0].__doc__ for name, inner in found.items()}))
            return 0 if words else 2
        options_type, run = lookup(found, words[0], f"{command} command")
        program, about, words = f"{program} {words[0]}", options_type.__doc__, words[1:]
    else:
        options_type, run = found, module.run
    words = repeat_flag(words, "--set")
    return run(tyro.cli(options_type, prog=program, description=about, args=words, registry=REGISTRY))


def repeat_flag(words: list[str], flag: str) -> list[str]:
    """`--set a=1 b=2` as `--set a=1 --set b=2`, so that positionals may follow the values of a flag."""
    out: list[str] = []
    active = False
    for word in words:
        active = word == flag or (active and "=" in word and not word.startswith("-"))
        if active and word != flag and out and out[-1] != flag:
            out.append(flag)
        out.append(word)
    return out


if __name__ == "__main__":
    sys.exit(main())
