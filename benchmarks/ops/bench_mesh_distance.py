# SPDX-License-Identifier: Apache-2.0
"""Distances to a mesh and inside tests: a ball of 131 k triangles, points anywhere and near its surface."""

import torch

from benchmarks.harness import Row, measure, report, throughput
from neurfield import ops
from tests.meshes import icosphere

N = 1 << 17


def main() -> None:
    vertices, faces = icosphere(7)
    generator = torch.Generator().manual_seed(0)
    anywhere = torch.rand(N, 3, generator=generator) * 3 - 1.5
    near = torch.nn.functional.normalize(torch.randn(N, 3, generator=generator), dim=1)
    near = near * (1 + 0.002 * torch.randn(N, 1, generator=generator))
    timing = measure(lambda: ops.mesh_tree(vertices, faces))
    rows = [Row("build", timing.median, "s", timing.spread, note=f"{len(faces)} triangles")]
    tree = ops.mesh_tree(vertices, faces)
    for name, x in (("anywhere", anywhere), ("near the surface", near)):
        rows += [
            throughput(f"distance, {name}", N, lambda x=x: ops.mesh_distance(tree, x)),
            throughput(f"inside, {name}", N, lambda x=x: ops.mesh_inside(tree, x, True), note="3 rays"),
        ]
    small = near[: N // 8]
    rows.append(
        throughput("inside an open mesh, near", len(small), lambda: ops.mesh_inside(tree, small, False), note="32 rays")
    )
    report("mesh_distance", "Distance to a triangle mesh", rows)
