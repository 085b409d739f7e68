# SPDX-License-Identifier: Apache-2.0
"""Errors with a meaning for the command line: their message is the one line a user reads, without a traceback."""


class UserError(Exception):
    """Wrong use or bad input: what was expected, what was found, where, the way out. Exit code 2."""

    exit_code = 2


class MachineError(Exception):
    """A fault of the machine (disk full, out of memory, non-finite training). Exit code 1."""

    exit_code = 1
