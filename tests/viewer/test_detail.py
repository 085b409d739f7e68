# SPDX-License-Identifier: Apache-2.0
"""Levels of detail are what the grid operator's max_level gives, also for the fused renderer, also after a change."""

import pytest
import torch

from neurfield import ops
from neurfield.training.method import load_method
from neurfield.viewer import shown_run
from neurfield.viewer.detail import Detail
from neurfield.viewer.look import Look
from tests.training.test_dynamic import SMALL_DYNAMIC


@pytest.mark.parametrize("kind", ["image", "video", "volume", "sdf"])
def test_a_level_is_the_mask_of_the_operator(signal_runs, kind):
    field = signal_runs[kind].field
    detail, config = Detail(field), field.encoding.config
    assert detail.n_levels == config.n_levels == 8
    x = torch.rand(100, field.n_dims, generator=torch.Generator().manual_seed(0))
    table = {"half_copy": ops.half_copy(field.encoding.params)}
    for level in (0, 1, 5, 7):
        masked = ops.hash_grid(x, field.encoding.params, config, level / config.n_levels, **table)
        with torch.no_grad():
            assert torch.equal(detail.field(level)(x), field.network(masked))
    assert detail.field(None) is field and detail.field(8) is field and detail.field(99) is field


def test_a_field_that_learns_is_copied_anew(signal_runs):
    import copy

    field, version = copy.deepcopy(signal_runs["image"].field), [0]
    detail, x = Detail(field, lambda: version[0]), torch.full((1, 2), 0.3)
    before = detail.field(3)
    assert detail.field(3) is before
    with torch.no_grad():
        field.encoding.params += 1
    assert detail.field(3) is before  # nobody has said that it changed
    version[0] = 1
    with torch.no_grad():
        assert not torch.equal(detail.field(3)(x), before(x))


def test_things_without_a_grid_have_no_levels():
    def anything(x: torch.Tensor) -> torch.Tensor:
        return x

    assert Detail(anything).n_levels == 0 and Detail(anything).field(3) is anything


def test_radiance_fields_have_levels_too(run):
    stage, camera = shown_run(run).stage, run.cameras[0]
    n = run.field.encoding.config.n_levels
    assert stage.controls.n_levels == n
    images = [stage.paint(camera, Look(level=level), lambda part: None, True).image for level in (None, n, n // 2, 1)]
    assert torch.equal(images[0], images[1])
    errors = [float((image - images[0]).abs().mean()) for image in images[2:]]
    assert 0 < errors[0] < errors[1]


def test_the_motion_loses_as_large_a_part_of_its_levels():
    field = load_method("ngp-dynamic", (*SMALL_DYNAMIC, "field.encoding.n_levels=6")).field.build(
        (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
    )
    rest, motion = field.encoding, field.motion_encoding
    with torch.no_grad():
        for grid in (rest, motion):
            grid.params.uniform_(-1, 1)
    x = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    detail = Detail(field)
    assert detail.n_levels == rest.config.n_levels == 6 and motion.config.n_levels == 3
    for level, n_motion in ((0, 0), (1, 1), (3, 2), (4, 2), (5, 3)):
        coarse = detail.field(level)
        for grid, cut, n in ((rest, coarse.encoding, level), (motion, coarse.motion_encoding, n_motion)):
            there = x[:, : grid.config.n_input_dims]
            expected = ops.hash_grid(there, grid.params, grid.config, n / grid.config.n_levels)
            assert torch.equal(cut(there), expected), (level, n)
