# SPDX-License-Identifier: Apache-2.0
"""Batches of cameras: choosing, moving, resizing."""

import numpy as np
import pytest
import torch

from neurfield.cameras.cameras import Cameras
from tests.data.small import circle


@pytest.fixture
def cameras() -> Cameras:
    return Cameras.pinhole(torch.tensor(np.stack(circle(5))), 10.0, 8, 6)


def test_pinhole_is_centred(cameras: Cameras) -> None:
    assert len(cameras) == 5 and cameras.c2w.shape == (5, 3, 4) and cameras.c2w.dtype == torch.float32
    assert cameras.intrinsics[4].tolist() == [10.0, 10.0, 4.0, 3.0] and cameras.sizes[4].tolist() == [8, 6]
    assert not cameras.models.any() and not cameras.distortion.any() and not cameras.times.any()


def test_poses_are_a_batch() -> None:
    assert len(Cameras.pinhole(np.stack(circle(5)), 10.0, 8, 6)) == 5
    for shape in ((4, 4), (3, 4), (2, 4, 3)):
        with pytest.raises(ValueError, match=r"expected poses \[n, 3 or 4, 4\], one as c2w\[None\], got shape"):
            Cameras.panorama(torch.zeros(shape), 8, 6)


def test_views_are_chosen_by_index_slice_list_and_mask(cameras: Cameras) -> None:
    for index in (3, np.int64(3), torch.tensor(3), [3], torch.tensor([3]), slice(3, 4), torch.arange(5) == 3, -2):
        one = cameras[index]
        assert len(one) == 1
        torch.testing.assert_close(one.c2w, cameras.c2w[3:4])
    assert len(cameras[[4, 0]]) == 2
    with pytest.raises(IndexError):
        cameras[5]


def test_transformed_moves_positions_only(cameras: Cameras) -> None:
    offset = torch.tensor([1.0, 2.0, 3.0])
    moved = cameras.transformed(0.5, offset)
    torch.testing.assert_close(moved.c2w[:, :, :3], cameras.c2w[:, :, :3])
    torch.testing.assert_close(moved.c2w[:, :, 3], cameras.c2w[:, :, 3] * 0.5 + offset)


@pytest.mark.parametrize(("factor", "size"), [(0.5, [4, 3]), (2.0, [16, 12]), (0.4, [3, 2]), (0.01, [1, 1])])
def test_resized_keeps_the_field_of_view(cameras: Cameras, factor: float, size: list[int]) -> None:
    resized = cameras.resized(factor)
    assert resized.sizes[0].tolist() == size
    for key in (slice(0, 2), slice(2, 4)):
        torch.testing.assert_close(
            resized.intrinsics[:, key] / resized.sizes, cameras.intrinsics[:, key] / cameras.sizes
        )
