# SPDX-License-Identifier: Apache-2.0
"""The world that `process` chooses stands, whichever one the cameras were found in."""

import numpy as np
import pytest

from neurfield.cameras.poses import Array
from neurfield.data.capture import world


def walk(n: int, outward: bool = False) -> Array:
    """`[n, 3, 4]` upright views on three quarters of a turn around (5, 6, 7), looking at it or away from it."""
    poses = []
    for angle in np.linspace(0, 1.5 * np.pi, n):
        away = np.array([np.cos(angle), np.sin(angle), 0.2 + 0.1 * np.sin(3 * angle)])
        back = (-away if outward else away) / np.linalg.norm(away)
        right = np.cross([0, 0, 1.0], back)
        right /= np.linalg.norm(right)
        poses.append(np.stack([right, np.cross(back, right), back, [5, 6, 7] + 3 * away], axis=1))
    return np.array(poses)


def moved(poses: Array, matrix: Array) -> Array:
    """Poses in another world, by a similarity `[3, 4]`."""
    scale = np.cbrt(np.linalg.det(matrix[:, :3]))
    axes = matrix[:, :3] / scale @ poses[:, :, :3]
    positions = poses[:, :, 3] @ matrix[:, :3].T + matrix[:, 3]
    return np.concatenate([axes, positions[:, :, None]], axis=2)


def some_similarity(seed: int) -> Array:
    random = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(random.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    return np.concatenate([random.uniform(0.1, 10) * rotation, random.normal(size=(3, 1))], axis=1)


@pytest.mark.parametrize("outward", [False, True])
def test_it_stands_around_what_is_seen(outward: bool) -> None:
    found = moved(walk(12, outward), some_similarity(0))
    stands = moved(found, world.similarity(found))
    assert abs(stands[:, 2, 0]).max() < 1e-9 and (stands[:, 2, 1] > 0.5).all()  # right hands level, heads up
    assert np.allclose(stands[0, :, 0], [1, 0, 0]) and stands[0, 1, 2] < -0.5  # the first looks along +y
    assert np.median(np.linalg.norm(stands[:, :, 3], axis=1)) == pytest.approx(1)
    if outward:
        assert np.allclose(stands[:, :, 3].mean(axis=0), 0)
    else:
        axes = np.einsum("ni,ni->n", stands[:, :, 3], stands[:, :, 2])[:, None] * stands[:, :, 2]
        assert np.allclose(stands[:, :, 3], axes)  # every view looks at the origin


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_same_in_whatever_world_the_cameras_were_found(seed: int) -> None:
    poses = walk(9)
    found = moved(poses, some_similarity(seed))
    assert np.allclose(moved(found, world.similarity(found)), moved(poses, world.similarity(poses)))


@pytest.mark.parametrize("degrees", [5, 20, 40])
def test_a_world_that_leans_is_set_upright(degrees: float) -> None:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    leans = moved(walk(12), np.array([[1.0, 0, 0, 0], [0, c, -s, 0], [0, s, c, 0]]))
    assert abs(moved(leans, world.similarity(leans))[:, 2, 0]).max() < 1e-9


def test_views_that_tell_little_have_a_world_all_the_same() -> None:
    down = np.array([[[1.0, 0, 0, 2], [0, 0, -1, 0], [0, 1, 0, 0]]])  # one view alone, in one place
    rolled = np.array([[[0.0, 0, -1, i], [1, 0, 0, 0], [0, -1, 0, 0]] for i in range(3)])  # its right hand to the sky
    for poses in (down, rolled):
        found = world.similarity(poses)
        assert np.isfinite(found).all() and np.linalg.det(found[:, :3]) > 0
