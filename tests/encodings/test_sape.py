# SPDX-License-Identifier: Apache-2.0
"""The controller of SAPE step by step, and gated encodings against masks that are multiplied in afterwards."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from neurfield import encodings, networks
from neurfield.encodings.spatial_progress import SpatialProgress
from neurfield.errors import UserError
from tests.cases import uniform

GATED = {
    "GaussianFourier": ({"n_frequencies": 12, "sigma": 3.0}, 12),
    "Frequency": ({"n_frequencies": 6}, 6),
    "HashGrid": ({"n_levels": 6, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 1.5}, 6),
}


def columns(otype: str, n_gates: int, n_outputs: int) -> Tensor:
    """Block of each output column."""
    index = torch.arange(n_outputs)
    if otype == "Frequency":  # [dimension, octave, sine or cosine]
        return index % 12 // 2 * n_gates // 6
    return index // 2 * n_gates // (n_outputs // 2)


@pytest.mark.parametrize("otype", GATED)
@pytest.mark.parametrize("n_gates", [1, 4, 6])
def test_gates_are_a_mask_per_sample_and_block(otype: str, n_gates: int) -> None:
    block, _ = GATED[otype]
    encoding = encodings.create(2, {"otype": otype, **block}).double()
    x = uniform(40, 2, dtype=torch.float64).requires_grad_()
    gates = uniform(40, n_gates, dtype=torch.float64, seed=1)
    mask = gates[:, columns(otype, n_gates, encoding.n_output_dims)]
    actual, expected = encoding(x, gates=gates), encoding(x) * mask
    torch.testing.assert_close(actual, expected, atol=1e-12, rtol=1e-12)
    weights = uniform(*actual.shape, dtype=torch.float64, seed=2)
    leaves = [x, *encoding.parameters()]
    for a, b in zip(*(torch.autograd.grad((y * weights).sum(), leaves) for y in (actual, expected)), strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def dense_mask(progress: SpatialProgress, x: Tensor) -> Tensor:
    """The definition: blur the mask tensor [nodes, blocks] with a box, interpolate at (r - 2) x + 1/2."""
    r, width = progress.resolution, 2 * progress.radius + 1
    mask = (torch.arange(progress.n_blocks) < progress.open_blocks[:, None]).double()
    image = mask.t().reshape(1, -1, *r)
    image = functional.avg_pool2d(functional.pad(image, (progress.radius,) * 4, mode="replicate"), width, 1)
    at = torch.stack([((n - 2) * x[:, k] + 0.5) * 2 / (n - 1) - 1 for k, n in enumerate(r)], dim=1)
    return functional.grid_sample(image, at.flip(1)[None, None].double(), align_corners=True)[0, :, 0].t()


def test_controller_follows_the_released_schedule() -> None:
    """Four blocks in 80 steps: one is due every 10; the loss is large on the left only."""
    progress = SpatialProgress(4, (12, 10), epsilon=0.5)
    assert progress.radius == 2
    torch.testing.assert_close(
        progress.gates(uniform(50, 2)), torch.tensor([1.0, 0, 0, 0]).expand(50, 4), atol=1e-6, rtol=0
    )
    for step in range(80):
        x = uniform(500, 2, seed=step)
        progress.after_step(x, (x[:, 0] < 0.3).float(), step / 80)
        assert int(progress.n_due) == min(4, 1 + step // 10)
    assert progress.is_finished
    picture = progress.picture()
    assert picture.shape == (12, 10) and (picture[:2] == 1).all() and (picture[8:] == 0.25).all()
    at = uniform(200, 2, dtype=torch.float64, seed=99)
    torch.testing.assert_close(progress.gates(at), dense_mask(progress, at), atol=1e-12, rtol=0)


def test_a_node_that_stopped_never_grows_again() -> None:
    progress = SpatialProgress(5, (4, 4), epsilon=0.5)
    x = uniform(200, 2)
    for step, loss in enumerate((1.0, 0.0, 1.0, 1.0)):
        progress.after_step(x, torch.full((200,), loss), (step + 1) / 10)  # a block per step
    assert torch.equal(progress.open_blocks, torch.full((16,), 2, dtype=torch.int32))


@pytest.mark.parametrize("n_steps", [1, 3, 7])
def test_all_blocks_are_due_after_half_of_few_steps(n_steps: int) -> None:
    progress, x = SpatialProgress(64, (8, 8), epsilon=0.5), uniform(300, 2)
    for step in range(n_steps):
        progress.after_step(x, torch.ones(300), 0.5 * (step + 1) / n_steps)
    assert progress.is_finished and (progress.open_blocks == 64).all()
    torch.testing.assert_close(progress.gates(x), torch.ones(300, 64), atol=1e-5, rtol=0)


def test_progress_never_goes_back() -> None:
    progress, x = SpatialProgress(4, (8, 8), epsilon=0.5, ramp="Soft"), uniform(300, 2)
    progress.after_step(x, torch.ones(300), 0.3)  # blocks 1 and 2 are due, 2 fades in
    before = progress.gates(x)
    progress.after_step(x, torch.ones(300), 0.1)  # of a larger budget
    assert torch.equal(progress.gates(x), before) and int(progress.n_due) == 3


def test_nodes_without_samples_follow_their_neighbours() -> None:
    progress = SpatialProgress(2, (16, 16), epsilon=0.5)
    near_corner = 0.1 * uniform(200, 2)
    progress.after_step(near_corner, torch.ones(200), 0.25)  # nothing is known elsewhere: the overall mean
    assert (progress.open_blocks == 2).all()


def test_soft_ramp_fades_in() -> None:
    progress = SpatialProgress(2, (6, 6), epsilon=0.0, ramp="Soft")
    x, seen = uniform(100, 2), []
    for step in range(20):
        progress.after_step(x, torch.ones(100), step / 40)
        seen.append(float(progress.gates(x)[0, 1]))
    expected = [0.0] * 10 + [min(1.0, 2 * k / 10) for k in range(10)]
    torch.testing.assert_close(torch.tensor(seen), torch.tensor(expected), atol=1e-6, rtol=0)


@pytest.mark.parametrize("dims", [1, 3, 4])
def test_other_dimensions(dims: int) -> None:
    progress = SpatialProgress(3, (5,) * dims, epsilon=0.1)
    for step in range(3):
        x = uniform(300, dims, seed=step)
        progress.after_step(x, torch.ones(300), (step + 1) / 6)
    torch.testing.assert_close(progress.gates(uniform(9, dims)), torch.ones(9, 3), atol=1e-5, rtol=0)


def test_state_resumes() -> None:
    one, two = (SpatialProgress(4, (6, 6), 0.3) for _ in range(2))
    for step in range(13):
        one.after_step(uniform(50, 2, seed=step), uniform(50, seed=step + 1), step / 40)
    two.load_state_dict(one.state_dict())
    for progress in (one, two):
        for step in range(13, 20):
            progress.after_step(uniform(50, 2, seed=step), uniform(50, seed=step + 1), step / 40)
    assert all(torch.equal(a, b) for a, b in zip(one.buffers(), two.buffers(), strict=True))
    assert torch.equal(copy.deepcopy(one).gates(uniform(5, 2)), one.gates(uniform(5, 2)))


def test_trains_with_one_hook() -> None:
    """Left half constant, right half a wave: the right opens more blocks, also as a part of a Composite."""
    sape = {
        "otype": "SAPE",
        "nested": {"otype": "GaussianFourier", "n_frequencies": 32, "sigma": 8.0},
        "resolution": [24],
        "n_blocks": 8,
        "epsilon": 1e-3,
    }
    encoding = encodings.create(1, {"otype": "Composite", "nested": [sape]})
    assert encoding.wants_losses
    net = networks.create(encoding.n_output_dims, 1, {"otype": "MLP", "n_neurons": 32, "n_hidden_layers": 2})
    optimizer = torch.optim.Adam(net.parameters(), lr=5e-3)
    for step in range(600):
        x = uniform(256, 1, seed=step)
        target = torch.where(x > 0.5, torch.sin(60 * x), torch.zeros_like(x))
        losses = ((net(encoding(x)) - target) ** 2).mean(1)
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        encoding.after_step(x, losses, step / 600)
    picture = encoding.nested[0].progress.picture()
    assert float(picture[18:].mean()) > 1.5 * float(picture[:6].mean())
    assert float(losses.detach().mean()) < 0.02


def test_errors_are_one_line() -> None:
    base = {"nested": {"otype": "Frequency"}, "resolution": [8, 8]}
    for message, keys in {
        r"SAPE: Identity has no gates; use GaussianFourier, Frequency or a grid": {"nested": {"otype": "Identity"}},
        r"SAPE: resolution: expected 2 numbers, got \[8\]": {"resolution": [8]},
        r"SAPE: resolution: expected 1 ... 4 numbers of at least 3 .*, got \[2, 8\]": {"resolution": [2, 8]},
        r"SAPE: resolution: expected .*, got \[99999, 99999\]": {"resolution": [99999, 99999]},
        r"SAPE: n_blocks: expected at most 12, got 13": {"n_blocks": 13},
        r"encoding SAPE: missing key 'resolution'": {"resolution": ...},
    }.items():
        block = {key: value for key, value in {**base, **keys}.items() if value is not ...}
        with pytest.raises(UserError, match=message):
            encodings.create(2, {"otype": "SAPE", **block})
