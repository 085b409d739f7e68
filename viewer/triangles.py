# SPDX-License-Identifier: Apache-2.0
"""The mesh that a distance field is of: what a page draws in its scene, and what errors are measured to."""

import threading
from collections.abc import Callable

import numpy as np
from torch import Tensor

from neurfield import ops
from neurfield.data.signals.mesh import MeshSignal
from neurfield.errors import UserError

MAX_TRIANGLES = 2_000_000  # in a page


class Triangles:
    """A mesh that is read when it is wanted first.

    Args:
        read: gives it, or raises UserError.
    """

    def __init__(self, read: Callable[[], MeshSignal]) -> None:
        self._read = read
        self._signal: MeshSignal | None = None
        self._lock = threading.Lock()

    @property
    def signal(self) -> MeshSignal:
        with self._lock:
            if self._signal is None:
                self._signal = self._read()
            return self._signal

    def check(self) -> None:
        """Raises UserError for more triangles than a page draws."""
        if len(self.signal.faces) > MAX_TRIANGLES:
            raise UserError(
                f"{self.signal.source}: the mesh has {len(self.signal.faces)} triangles, more than the {MAX_TRIANGLES} "
                "that a page draws; make it smaller with another program, or train a field of it, which has no limit"
            )

    def distance(self, x: Tensor) -> Tensor:
        """Distance `[n]` of points `[n, 3]` of the unit cube to its surface, in units of the cube."""
        return ops.mesh_distance(self.signal.tree, x)

    def in_world(self) -> tuple[np.ndarray, np.ndarray]:
        """Vertices float32 `[n, 3]` in the world of results (MeshInfo.normalization), and faces `[m, 3]`.

        Raises:
            UserError: more triangles than a page draws.
        """
        self.check()
        signal = self.signal
        vertices = signal.info.normalization.to_world(signal.vertices.double()).float().numpy()
        return vertices, signal.faces.numpy().astype(np.uint32)
