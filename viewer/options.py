# SPDX-License-Identifier: Apache-2.0
"""Where a viewer is served; importing this costs nothing, so that commands may offer it."""

from dataclasses import dataclass

from neurfield.errors import UserError


@dataclass(frozen=True)
class ServeOptions:
    """Where and to whom the viewer is served."""

    host: str = "127.0.0.1"
    """Address to listen on; any but loopback asks for the token."""
    port: int = 7007
    """Port to listen on; 0 takes any free one."""
    next_port: bool = False
    """Take the next free port when this one is in use."""
    token: str | None = None
    """What the link must carry; default: a random one, and none on loopback. 'auto' asks for one on loopback, too."""
    path_prefix: str = ""
    """Path that a proxy forwards unchanged, e.g. /viewer; proxies that take the prefix away need nothing."""
    max_clients: int = 16
    """Pages at a time."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port must be 0 ... 65535, got {self.port}")
        if self.path_prefix and not self.path_prefix.startswith("/"):
            raise UserError(f"--path-prefix must begin with /, got {self.path_prefix!r}")
        if self.token is not None and (len(self.token) < 4 or not self.token.isascii() or not self.token.isalnum()):
            raise UserError("--token needs at least 4 letters and digits, or auto")
        if self.max_clients < 1:
            raise UserError(f"--max-clients must be at least 1, got {self.max_clients}")
