# SPDX-License-Identifier: Apache-2.0
"""The memory that a training will take, from headers and configuration alone: nothing is decoded or allocated."""

import torch

from neurfield.data.load import plan_memory
from neurfield.data.views import Manifest
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.ema import Ema
from neurfield.training.memory import n_bytes
from neurfield.training.method import MethodConfig
from neurfield.training.optimizer import Adam


def plan_training(train: Manifest, test: Manifest | None, method: MethodConfig) -> dict[str, int]:
    """Bytes by purpose; those of a step and of reading are estimates from above, and not all are needed at once.

    Args:
        train: the training views.
        test: views that are measured while or after training.
        method: field, occupancy grid and optimiser are built on torch's meta device, which holds shapes only.
    """
    norm, data = train.normalization, plan_memory(train)
    with torch.device("meta"):
        field = method.field.build(norm.aabb, len(train.views))
        state = [
            *Adam(field, method.optimizer).tensors().values(),
            *OccupancyGrid(norm.aabb_scale).state_dict().values(),
        ]
        if method.training.ema_decay > 0:
            state += Ema(field, method.training.ema_decay).tensors().values()
    # packed, all views have a mask and a depth map if any has
    images = data.images + (data.n_pixels if data.masks else 0)
    images += 4 * data.n_pixels if data.depths and method.loss.depth > 0 else 0
    # packing for training copies masks and depth maps, images in another order than that of the views, and linear ones
    # twice, as they become sRGB; views of an archive keep their pixels
    in_order = train.splits["train"] == list(range(len(train.views)))
    copies = 2 if train.views[0].header.is_float else 0 if in_order else 1
    kept = sum(view.pixels.nbytes for view in train.views if view.pixels is not None)
    as_read = data.masks + data.depths + copies * data.images + kept
    parameters, rest = n_bytes(field.parameters()), n_bytes(state)
    plan = {
        "images": images,
        "reading them": max(data.decoding, as_read),
        "parameters": parameters,
        "optimiser and occupancy": rest,
        "last good state": parameters + rest,
        "step": (method.training.n_samples + field.extra_rows) * field.step_bytes,
    }
    return plan if test is None else plan | {"images to measure": plan_memory(test).peak}
