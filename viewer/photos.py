# SPDX-License-Identifier: Apache-2.0
"""The images that a field was trained on, one by one and when they are asked for."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from neurfield.data.load import decode
from neurfield.data.scene import Scene
from neurfield.data.views import Manifest
from neurfield.rendering.color import over_background
from neurfield.run import Run

_KEPT = 8  # decoded images kept in memory


class Photos:
    """Images by number of the view.

    Args:
        source: gives what was read of the data, or raises UserError; called once, when the first image is wanted.
    """

    def __init__(self, source: Callable[[], Manifest | Scene]) -> None:
        self._source = source
        self._read: Manifest | Scene | None = None
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def image(self, view: int, background: Tensor) -> Tensor:
        """sRGB float32 `[h, w, 3]` of a view, over `background [3]`.

        Raises:
            UserError: the data cannot be read, or are not those that the field was trained on.
        """
        with self._lock:
            if view not in self._kept:
                self._kept[view] = self._decoded(view)
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(view)
            stored = self._kept[view]
        return over_background(stored, background)

    def _decoded(self, view: int) -> Tensor:
        if self._read is None:
            self._read = self._source()
        if isinstance(self._read, Scene):
            return self._read.images[view]
        chosen = replace(self._read, views=[self._read.views[view]], splits={"train": [0]})
        return decode(chosen).images[0]


def photos_of_run(run: Run) -> Photos:
    """Images of a run's data set, which is read when they are wanted and must then have the views of the run."""
    return Photos(run.look_at_data)


def fitted_into(image: Tensor, width: int, height: int) -> Tensor:
    """An image `[h, w, 3]` as large as fits into `width` x `height`, in the middle; the rest is dark grey."""
    h, w = image.shape[:2]
    scale = min(width / w, height / h)
    size = (max(round(h * scale), 1), max(round(w * scale), 1))
    scaled = torch.nn.functional.interpolate(image.permute(2, 0, 1)[None], size, mode="bilinear", antialias=True)
    out = torch.full((height, width, 3), 0.15)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    out[top : top + size[0], left : left + size[1]] = scaled[0].permute(1, 2, 0).clamp(0, 1)
    return out
