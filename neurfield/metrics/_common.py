# SPDX-License-Identifier: Apache-2.0
from torch import Tensor


def check_images(metric: str, image: Tensor, target: Tensor) -> None:
    """Raises ValueError unless both are `[height, width, 3]` of one size: broadcasting would hide a mistake."""
    if image.shape != target.shape or image.dim() != 3 or image.shape[-1] != 3:
        found = f"{list(image.shape)} and {list(target.shape)}"
        raise ValueError(f"{metric}: image and target must be [height, width, 3] of one size, got {found}")
