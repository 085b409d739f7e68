# SPDX-License-Identifier: Apache-2.0
"""The project's own scenes: solids given by formulas, ray traced into pictures with exact depth, normals and mesh."""

from collections.abc import Callable

from neurfield.data.procedural import lighthouse, robot, windmill
from neurfield.data.procedural.model import Group

# name: builder of its parts
SCENES: dict[str, Callable[[], Group]] = {"lighthouse": lighthouse.build, "robot": robot.build}
# those that move: of the parts at a time of 0 ... 1
MOVING: dict[str, Callable[[float], Group]] = {"windmill": windmill.build}
NAMES = (*SCENES, *MOVING)


def build(name: str, time: float = 0.0) -> Group:
    """The parts of a scene, of one that moves at `time`."""
    return MOVING[name](time) if name in MOVING else SCENES[name]()
