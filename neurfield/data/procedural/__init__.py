# SPDX-License-Identifier: Apache-2.0
"""The project's own scenes: solids given by formulas, ray traced into pictures with exact depth, normals and mesh."""

from neurfield.data.procedural import lighthouse, robot

# name: builder of its parts
SCENES = {"lighthouse": lighthouse.build, "robot": robot.build}
