# SPDX-License-Identifier: Apache-2.0
"""Corrections of poses, against SciPy's rotations and motions of everything."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from neurfield.cameras.corrections import CommonMotions, corrected, rotations
from tests.scenes import orbit


@pytest.mark.parametrize("size", [0.0, 1e-5, 1e-3, 0.1, 3.0])
def test_rotations(size):
    turns = size * torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=1)
    expected = Rotation.from_rotvec(turns.numpy()).as_matrix()
    assert np.abs(rotations(turns).numpy() - expected).max() < 1e-12


def test_a_camera_turns_about_its_own_centre():
    poses = orbit(5)
    moved = corrected(poses, torch.tensor([[0.1, 0, 0, 0, 0, 0.5]]).expand(5, 6))
    torch.testing.assert_close(moved[:, :, 3], poses[:, :, 3] + torch.tensor([0.0, 0.0, 0.5]))
    angles = Rotation.from_matrix((moved[:, :, :3] @ poses[:, :, :3].mT).double().numpy()).as_rotvec()
    assert np.abs(angles - [0.1, 0, 0]).max() < 1e-6


def test_what_moves_all_is_taken_out_and_nothing_else():
    poses, size = orbit(12).double(), 1e-4
    common = CommonMotions(poses[:, :, 3])
    random = torch.Generator().manual_seed(0)
    turn, shift, growth = (size * torch.randn(n, generator=random, dtype=torch.float64) for n in (3, 3, 1))
    whole = rotations(turn[None])[0]
    after = torch.cat([whole @ poses[:, :, :3], (1 + growth) * (whole @ poses[:, :, 3:]) + shift[:, None]], dim=2)
    turns = torch.from_numpy(Rotation.from_matrix((after[:, :, :3] @ poses[:, :, :3].mT).numpy()).as_rotvec())
    of_all = torch.cat([turns, after[:, :, 3] - poses[:, :, 3]], dim=1)
    assert common.without(of_all).abs().max() < 20 * size**2  # second order; distances are 3
    own = common.without(torch.randn(12, 6, generator=random, dtype=torch.float64))
    torch.testing.assert_close(common.without(own), own)
    torch.testing.assert_close(common.without(own + of_all), own, rtol=0, atol=20 * size**2)
    assert own.norm() > 5  # 72 numbers less 7


def test_cameras_at_one_place_and_a_single_one():
    corrections = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))
    left = CommonMotions(torch.ones(4, 3)).without(corrections)
    assert left.isfinite().all() and left[:, :3].mean(dim=0).abs().max() < 1e-6
    assert CommonMotions(torch.ones(1, 3)).without(corrections[:1]).abs().max() < 1e-6
