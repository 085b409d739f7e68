# SPDX-License-Identifier: Apache-2.0
"""Which signals ask a command to end."""

import signal

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Ctrl-C; a queue or a container that ends; a terminal that closes
REPEATED = getattr(signal, "SIGHUP", None)  # comes from a shell and from its terminal, and means one thing only


def stop_signals() -> list[signal.Signals]:
    """Those that this machine has, less what whoever started the process has it ignore, as nohup does SIGHUP."""
    kinds = [signal.Signals[name] for name in _NAMES if hasattr(signal, name)]
    return [kind for kind in kinds if signal.getsignal(kind) is not signal.SIG_IGN]
