# SPDX-License-Identifier: Apache-2.0
"""What a viewer shows of images, videos and volumes: their fields, or the files themselves.

A picture stands upright, its longer side 1, and a strip of pixels no thinner than can be seen. A volume stands as its
affine map says (of a NIfTI file: x to the right of the patient, y to the front, z up, in millimetres), or with cubic
cells and its longest side 1.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from neurfield.data.scene import Normalization
from neurfield.data.signals.grid import GridInfo, GridSignal
from neurfield.signal_run import SignalRun
from neurfield.viewer.look import Triple, triple
from neurfield.viewer.sections import GridValues, SectionStage, Values
from neurfield.viewer.shown import Home, Shown

_MARGIN = 1.1  # of the picture's height around a picture
_WIDE = 0.75  # height over width of a page that shows all of a wide picture
_THINNEST = 1 / 200  # of a picture's longer side: a row of pixels is seen on any page
_BACK: Triple = (1.0, 1.4, 0.9)  # from where a volume is seen: of a head, half from the front


def grid_run(run: SignalRun, signal: GridSignal | None, version: Callable[[], int]) -> Shown:
    """A field; `signal` None: it is read from where the run found it."""
    data = GridValues(run.signal if signal is None else lambda: signal)
    return shown_grid(run.field, run.info, data if run.config.data else None, version)


def grid_data(signal: GridSignal) -> Shown:
    """The data themselves, before there is a field."""
    return shown_grid(GridValues(lambda: signal), signal.info)


def shown_grid(
    values: Values, info: GridInfo, data: Values | None = None, version: Callable[[], int] = lambda: 0
) -> Shown:
    """Values on planes, and where these lie; arguments as of SectionStage."""
    is_volume = len(info.sizes) == 3 and info.fps is None
    world_from_box = _volume_box(info) if is_volume else _picture_box(info)
    frame = _frame(world_from_box) if is_volume else Normalization(1.0, (0.5, 0.5, 0.5))
    height, width = info.sizes[-2:]
    if is_volume:
        home = Home.around(frame, _BACK, (0.0, 0.0, 1.0), 1.4)
    else:
        size = _MARGIN * max(height, _WIDE * width) / max(height, width)
        home = Home.around(frame, (0.0, 0.0, 1.0), (0.0, 1.0, 0.0), size)
    return Shown(info.name, home, frame, SectionStage(values, info, world_from_box, data, version))


def _picture_box(info: GridInfo) -> Tensor:
    """x to the right, y down, what is time for a video towards the page."""
    longest = max(info.sizes[-2:])
    height, width = (max(side / longest, _THINNEST) for side in info.sizes[-2:])
    return torch.tensor([[width, 0, 0, -width / 2], [0, -height, 0, height / 2], [0, 0, 1, 0]])


def _volume_box(info: GridInfo) -> Tensor:
    sizes = np.array(info.sizes, np.float64)
    affine = np.diag([*np.full(3, 1 / sizes.max()), 1.0])
    affine[:3, 3] = 0.5 / sizes.max()  # the corner of the box is the origin
    if info.affine is not None:
        given = np.array(info.affine, np.float64).reshape(4, 4)
        # a file may say anything
        if np.isfinite(given).all() and 1e-12 < abs(np.linalg.det(given[:3, :3])) < 1e12:
            affine = given
    sides = affine[:3, :3] * sizes
    corner = affine[:3, 3] - affine[:3, :3].sum(axis=1) / 2  # sample 0 is half a cell inside
    # the last axis of the array is the first coordinate
    return torch.from_numpy(np.column_stack([sides[:, ::-1], corner])).float()


def _frame(world_from_box: Tensor) -> Normalization:
    """A cube around the box."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3) @ world_from_box[:, :3].T + world_from_box[:, 3]
    low, high = corners.amin(dim=0), corners.amax(dim=0)
    scale = 1 / float((high - low).max())
    return Normalization(scale, triple((0.5 - scale * (low + high) / 2).tolist()))
