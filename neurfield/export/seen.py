# SPDX-License-Identifier: Apache-2.0
"""Which parts of a mesh the training views of a field see.

Behind what they see a field may be anything: the photos say nothing about it, and a facade becomes a block of stone as
thick as the scene's cube. A vertex is seen where it lies in a view and not behind the depth that is rendered there.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from neurfield import ops
from neurfield.rendering.outputs import SOLID

if TYPE_CHECKING:
    from neurfield.run import Run

MAX_VIEWS = 48
LONGEST_SIDE = 384  # pixels of the views that are rendered
_CELLS_BEHIND = 6.0  # of the mesh; its surface lies at or in front of the mean depth, but for slanted pixels


def seen_vertices(
    run: "Run", vertices: Tensor, cell: float, progress: Callable[[float], None] = lambda fraction: None
) -> Tensor:
    """bool `[n]`: which of the `vertices [n, 3]` any of up to MAX_VIEWS training views sees.

    Args:
        run: trained, on the CPU.
        vertices: float32, in the world of the input.
        cell: of the mesh, in the world.
        progress: called with the fraction done.
    """
    chosen = run.views.train
    chosen = chosen[:: -(-len(chosen) // MAX_VIEWS)]
    seen = torch.zeros(len(vertices), dtype=torch.bool)
    for i, view in enumerate(chosen):
        camera = run.cameras[view]
        camera = camera.resized(min(LONGEST_SIDE / int(camera.sizes.max()), 1.0))
        result = run.renderer.render(camera, ("depth", "accumulation"))
        width, height = camera.sizes[0].tolist()
        pixel_xy, _ = ops.project(camera, torch.zeros(len(vertices), dtype=torch.int64), vertices)
        x, y = pixel_xy.nan_to_num(-1.0).floor().unbind(1)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        pixel = (y * width + x)[inside].long()
        depth = torch.where(result["accumulation"] >= SOLID, result["depth"], torch.inf).flatten()[pixel]
        distance = (vertices[inside] - camera.c2w[0, :, 3]).norm(dim=1)
        pixel_size = distance / float(camera.intrinsics[0, :2].min())
        seen[inside] |= distance <= depth + _CELLS_BEHIND * torch.clamp(pixel_size, min=cell)
        progress((i + 1) / len(chosen))
    return seen
