# SPDX-License-Identifier: Apache-2.0
"""Errors with a meaning for the command line: their message is the one line a user reads, without a traceback."""

import errno

# in what torch's allocators say; CPU ones raise a RuntimeError
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory")


_LONGEST_REASON = 200  # characters of another package's message, which may go on for pages


class UserError(Exception):
    """Wrong use or bad input: what was expected, what was found, where, the way out. Exit code 2."""

    exit_code = 2


class MachineError(Exception):
    """A fault of the machine (disk full, out of memory, non-finite training). Exit code 1."""

    exit_code = 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of Python, torch or the system says that memory ran out."""
    if isinstance(error, RuntimeError):
        return any(text in str(error) for text in _NO_MEMORY)
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def retold(error: Exception, message: str, advice: str = "") -> Exception:
    """What to raise for a broken file: a UserError of one line, "message (what `error` says); advice".

    `error` itself if it says so already, or if memory ran out, which is no fault of the file.
    """
    if isinstance(error, UserError | MachineError) or is_out_of_memory(error):
        return error
    return UserError(f"{message} ({one_line(error)})" + (f"; {advice}" if advice else ""))


def one_line(error: Exception) -> str:
    """What an exception says, its kind if it says nothing."""
    return " ".join(str(error).split())[:_LONGEST_REASON] or type(error).__name__
