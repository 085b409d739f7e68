# SPDX-License-Identifier: Apache-2.0
"""Triangle meshes: taking them from a field, measuring them, writing them. NumPy only."""

from neurfield.geometry.marching_cubes import marching_cubes
from neurfield.geometry.mesh import Mesh, MeshReport, keep_large_components, report
from neurfield.geometry.mesh_files import WRITERS, gltf_from_world, write_mesh

__all__ = [
    "WRITERS",
    "Mesh",
    "MeshReport",
    "gltf_from_world",
    "keep_large_components",
    "marching_cubes",
    "report",
    "write_mesh",
]
