# SPDX-License-Identifier: Apache-2.0
"""Scenes that are made in code: what fits together is taken, and what does not is refused in a line."""

import json
from dataclasses import astuple, replace

import numpy as np
import pytest
import torch

from neurfield.data.scene import Normalization
from tests.scenes import ball_scene

SCENE = ball_scene(3, 1, 16)
FLOATS = [image / 255 for image in SCENE.images]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": SCENE.images[:3]}, r"expected images of its 4 views, got 3"),
        ({"masks": [None]}, r"expected masks of its 4 views, got 1"),
        ({"paths": ["a"]}, r"expected paths of its 4 views, got 1"),
        ({"images": [i.numpy() for i in FLOATS]}, r"image 0 must be a uint8 or float32 tensor, got ndarray"),
        ({"images": [i.double() for i in FLOATS]}, r"image 0 must be a uint8 or float32 tensor, got torch.float64"),
        ({"images": [i.permute(2, 0, 1) for i in FLOATS]}, r"image 0 must be \[16, 16, 3 or 4\].*got \[4, 16, 16\]"),
        ({"images": [i[..., 0] for i in FLOATS]}, r"image 0 must be \[16, 16, 3 or 4\].*got \[16, 16\]"),
        ({"images": [*FLOATS[:3], FLOATS[3][:9]]}, r"image 3 must be \[16, 16, 3 or 4\].*got \[9, 16, 4\]"),
        ({"images": [*FLOATS[:3], FLOATS[3][..., :3]]}, r"image 3 has other channels or another dtype than image 0"),
        ({"images": [*FLOATS[:3], SCENE.images[3]]}, r"image 3 has other channels or another dtype than image 0"),
        ({"depths": [FLOATS[0][..., 0]]}, r"expected depths of its 4 views, got 1"),
        ({"depths": [None, FLOATS[0][..., 0].numpy(), None, None]}, r"depth 1 must be.*\[16, 16\], got ndarray"),
        (
            {"depths": [None, None, None, FLOATS[3][:9, :, 0]]},
            r"depth 3 must be.*\[16, 16\], got torch.float32 \[9, 16\]",
        ),
        ({"depths": [FLOATS[0][..., 0].double(), *[None] * 3]}, r"depth 0 must be a float32 .*got torch.float64"),
        ({"splits": {"train": [0, 4]}}, r"splits: train must be numbers of views, ints in 0 \.\.\. 3"),
        ({"splits": {"train": np.arange(3)}}, r"splits: train must be numbers of views, ints in 0 \.\.\. 3"),
    ],
)
def test_parts_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=f"^scene ball: {message}"):
        replace(SCENE, **change)


def test_one_tensor_is_as_good_as_a_list():
    stacked = replace(SCENE, images=torch.stack(FLOATS), paths=[])
    assert stacked.has_alpha and "16 x 16 pixels" in repr(stacked)


def test_a_map_of_other_numbers_is_written():
    expected = Normalization(0.5, (0.25, 0.5, 0.75))
    for offset in (np.array([0.25, 0.5, 0.75], np.float32), torch.tensor([0.25, 0.5, 0.75])):
        made = Normalization(np.float32(0.5), offset)
        assert made == expected and json.dumps(astuple(made)) == json.dumps(astuple(expected))
        assert made.to_unit(torch.ones(3)).dtype == torch.float32
