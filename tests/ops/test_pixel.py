# SPDX-License-Identifier: Apache-2.0
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.library import opcheck

from neurfield import ops
from neurfield.cameras.cameras import Cameras, panorama_intrinsics
from neurfield.reference import pixel as reference
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close
from tests.ops.test_camera import cameras

SIZE_LIST = [[20, 11], [8, 16], [5, 3]]  # width, height: partial blocks, whole blocks, less than a block


def views(model: str = "opencv") -> Cameras:
    return replace(cameras(model), sizes=torch.tensor(SIZE_LIST))


def numbered_images(n_channels: int = 4) -> Tensor:
    """uint8 [n_pixels, n_channels] with the pixel's number in the first two channels."""
    n = sum(w * h for w, h in SIZE_LIST)
    number = torch.arange(n)
    return torch.stack([number % 256, number // 256, number % 7, 255 - number % 5], dim=1)[:, :n_channels].to(
        torch.uint8
    )


def pixel_numbers(picks: Tensor) -> Tensor:
    sizes = torch.tensor(SIZE_LIST)
    starts = sizes.prod(dim=1).cumsum(0) - sizes.prod(dim=1)
    view, x, y = picks.long().unbind(1)
    return starts[view] + y * sizes[view, 0] + x


def chi_square(counts: Tensor, share: Tensor | None = None) -> float:
    """Against equal parts, or parts in proportion to `share`."""
    share = torch.ones(len(counts)) if share is None else share
    expected = counts.sum() * share / share.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("n", SIZES)
def test_rays_and_colours_belong_to_the_picked_pixel(n: int) -> None:
    values, c = numbered_images(), views()
    drawn = ops.sample_pixels(values, c.sizes, c, n, seed=1, step=2)
    view, x, y = drawn.picks.long().unbind(1)
    assert ((x >= 0) & (x < c.sizes[view, 0]) & (y >= 0) & (y < c.sizes[view, 1])).all()
    origins, directions = ops.camera_rays(c, view, torch.stack([x, y], dim=1) + 0.5)
    assert torch.equal(drawn.origins, origins) and torch.equal(drawn.directions, directions)
    assert torch.equal(drawn.targets, values[pixel_numbers(drawn.picks)] / 255)


@pytest.mark.parametrize("per_pixel", [4, 9])
def test_rays_of_a_pixel_pass_through_equal_parts_of_it(per_pixel: int) -> None:
    values, c, side = numbered_images(), views(), math.isqrt(per_pixel)
    one = ops.sample_pixels(values, c.sizes, c, 33, seed=1, step=2)
    drawn = ops.sample_pixels(values, c.sizes, c, 33, seed=1, step=2, rays_per_pixel=per_pixel)
    assert torch.equal(drawn.picks, one.picks) and torch.equal(drawn.targets, one.targets)
    middles = torch.tensor([[(x + 0.5) / side, (y + 0.5) / side] for y in range(side) for x in range(side)])
    xy = (drawn.picks[:, None, 1:] + middles).view(-1, 2)
    origins, directions = ops.camera_rays(c, drawn.picks[:, 0].long().repeat_interleave(per_pixel), xy)
    assert torch.equal(drawn.origins, origins)
    # (k + 0.5) * (1 / side) and (k + 0.5) / side may differ by half an ulp of a pixel coordinate
    assert (drawn.directions - directions).abs().max() < 4 * torch.finfo(torch.float32).eps


def test_refuses_rays_per_pixel_that_form_no_square() -> None:
    c = views()
    for n in (0, 2, 81, -4):
        with pytest.raises(ValueError, match=rf"rays_per_pixel must be one of 1, 4, 9, .*64, got {n}"):
            ops.sample_pixels(numbered_images(), c.sizes, c, 1, 0, 0, rays_per_pixel=n)


@pytest.mark.parametrize("valid", [1.0, 0.5, 0.02])
@pytest.mark.parametrize("listed", [None, [0, 4, 7, 8]])
def test_picks_match_reference(valid: float, listed: list[int] | None) -> None:
    """Exactly: integers only. Hardly any valid pixels: most rays search their last block."""
    c = views("pinhole")
    masks = (uniform(sum(w * h for w, h in SIZE_LIST)) < valid).to(torch.uint8)
    starts = reference.blocks_of(SIZE_LIST)
    for number, (view, x, y) in enumerate(starts):  # every block needs a valid pixel
        masks[pixel_numbers(torch.tensor([[view, x + number % 2, y]]))] = 1
    blocks = None if listed is None else torch.tensor(listed, dtype=torch.int32)
    step = 2**40 + 5
    drawn = ops.sample_pixels(numbered_images(), c.sizes, c, 500, seed=9, step=step, masks=masks, blocks=blocks)
    per_view = [
        part.view(h, w) for part, (w, h) in zip(masks.split([w * h for w, h in SIZE_LIST]), SIZE_LIST, strict=True)
    ]
    expected = [reference.pick_pixel(SIZE_LIST, ray, 9, step, per_view, listed) for ray in range(500)]
    assert drawn.picks.tolist() == [list(pick) for pick in expected]


@pytest.mark.parametrize("n_channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_channels(n_channels: int, dtype: torch.dtype) -> None:
    values, c = numbered_images(4)[:, -n_channels:].to(dtype).contiguous(), views("pinhole")
    drawn = ops.sample_pixels(values, c.sizes, c, 50, seed=1, step=2)
    picked = values[pixel_numbers(drawn.picks)].float() / (255 if dtype == torch.uint8 else 1)
    grey = n_channels < 3
    assert torch.equal(drawn.targets[:, :3], picked[:, :1].expand(-1, 3) if grey else picked[:, :3])
    assert torch.equal(drawn.targets[:, 3], picked[:, -1] if n_channels % 2 == 0 else torch.ones(50))


def test_pixels_are_uniform_over_images_of_all_sizes() -> None:
    c = views("pinhole")
    n_pixels = len(numbered_images())
    drawn = ops.sample_pixels(numbered_images(), c.sizes, c, 100 * n_pixels, seed=0, step=0)
    counts = torch.bincount(pixel_numbers(drawn.picks), minlength=n_pixels)
    freedom = n_pixels - 1
    assert abs(chi_square(counts) - freedom) < 4 * math.sqrt(2 * freedom)


def panoramas() -> Cameras:
    made = views("equirectangular")
    return replace(made, intrinsics=torch.tensor([panorama_intrinsics(w, h) for w, h in SIZE_LIST]))


def latitudes() -> list[list[float]]:
    return [[(0.5 - (y + 0.5) / height) * math.pi for y in range(height)] for _, height in SIZE_LIST]


@pytest.mark.parametrize("masked", [False, True])
def test_picks_of_panoramas_match_reference(masked: bool) -> None:
    c, values = panoramas(), numbered_images()
    masks = (torch.arange(len(values)) % 4 != 0).to(torch.uint8)
    drawn = ops.sample_pixels(values, c.sizes, c, 500, seed=9, step=5, masks=masks if masked else None)
    per_view = [part.view(h, w) for part, (w, h) in zip(masks.split([220, 128, 15]), SIZE_LIST, strict=True)]
    given = per_view if masked else None
    expected = [reference.pick_pixel(SIZE_LIST, ray, 9, 5, given, latitudes=latitudes()) for ray in range(500)]
    assert drawn.picks.tolist() == [list(pick) for pick in expected]


def test_pixels_of_panoramas_are_as_likely_as_their_solid_angle() -> None:
    """Amid photos, too: a pixel of the horizon is as likely as one of theirs."""
    around, photo = Cameras.panorama(views().c2w[:1], 32, 16), Cameras.pinhole(views().c2w[:1], 20.0, 16, 24)
    c = Cameras(*(torch.cat([getattr(x, name) for x in (around, photo)]) for name in vars(photo)))
    n_pixels = 32 * 16 + 16 * 24
    drawn = ops.sample_pixels(torch.zeros(n_pixels, 3), c.sizes, c, 1000 * n_pixels, seed=0, step=0)
    view, x, y = drawn.picks.long().unbind(1)
    counts = torch.bincount(torch.where(view == 0, y * 32 + x, 32 * 16 + y * 16 + x), minlength=n_pixels)
    rows = ((0.5 - (torch.arange(16) + 0.5) / 16) * math.pi).cos()
    share = torch.cat([rows.repeat_interleave(32), torch.ones(16 * 24)])
    freedom = n_pixels - 1
    assert abs(chi_square(counts, share) - freedom) < 4 * math.sqrt(2 * freedom)


def test_masked_pixels_are_never_drawn_and_the_rest_is_uniform() -> None:
    c, values = views("pinhole"), numbered_images()
    masks = (torch.arange(len(values)) % 3 == 0).to(torch.uint8) * 255
    drawn = ops.sample_pixels(values, c.sizes, c, 100 * len(values), seed=0, step=0, masks=masks)
    counts = torch.bincount(pixel_numbers(drawn.picks), minlength=len(values))
    assert (counts[masks == 0] == 0).all()
    valid = counts[masks > 0]
    # after 8 rejected draws (2 of 3 pixels masked and partial blocks: 0.8^8 = 17 %) the last block decides: looser
    assert (valid > 0).all() and valid.max() < 6 * valid.min()


def test_a_single_valid_pixel_is_found() -> None:
    c, values = views("pinhole"), numbered_images()
    masks = torch.zeros(len(values), dtype=torch.uint8)
    masks[9 * 20 + 18] = 1  # in the last, partial block of view 0
    blocks = torch.tensor([1 * 3 + 2], dtype=torch.int32)
    drawn = ops.sample_pixels(values, c.sizes, c, 200, seed=0, step=0, masks=masks, blocks=blocks)
    assert (drawn.picks == torch.tensor([0, 18, 9])).all()


def test_listed_blocks_only() -> None:
    c = views("pinhole")  # blocks: view 0 has 3 x 2, view 1 1 x 2, view 2 1 x 1
    blocks = torch.tensor([4, 7], dtype=torch.int32)
    drawn = ops.sample_pixels(numbered_images(), c.sizes, c, 4000, seed=0, step=0, blocks=blocks)
    view, x, y = drawn.picks.unbind(1)
    first, second = view == 0, view == 1
    assert (first | second).all()
    assert ((x[first] >= 8) & (x[first] < 16) & (y[first] >= 8) & (y[first] < 11)).all()
    assert (y[second] >= 8).all()
    counts = torch.bincount(pixel_numbers(drawn.picks))
    counts = counts[counts > 0]
    assert len(counts) == 8 * 3 + 64 and abs(chi_square(counts) - 87) < 4 * math.sqrt(2 * 87)


def test_deterministic_by_seed_and_step() -> None:
    c, values = views(), numbered_images()
    before = torch.get_num_threads()
    draws = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            draws.append(ops.sample_pixels(values, c.sizes, c, 5000, seed=3, step=4))
    finally:
        torch.set_num_threads(before)
    for draw in draws[1:]:
        assert all(torch.equal(a, b) for a, b in zip(draw, draws[0], strict=True))
    for seed, step in ((3, 5), (4, 4)):
        other = ops.sample_pixels(values, c.sizes, c, 5000, seed=seed, step=step)
        assert (other.picks != draws[0].picks).any(dim=1).float().mean() > 0.9


def test_opcheck() -> None:
    c = views()
    inputs = (numbered_images(), c.sizes, c.c2w, c.intrinsics, c.distortion, c.models, 9, 0, 0, None, None, 2)
    opcheck(torch.ops.neurfield.sample_pixels.default, inputs)


def test_errors_say_expected_and_found() -> None:
    c = views()
    with pytest.raises(
        ValueError, match=r"sample_pixels: values must be \[363, 1 ... 4\] for these sizes, got \[10, 3\]"
    ):
        ops.sample_pixels(torch.zeros(10, 3, dtype=torch.uint8), c.sizes, c, 1, 0, 0)
    with pytest.raises(TypeError, match=r"sample_pixels: values must be uint8/float32 \[n_pixels, n_channels\]"):
        ops.sample_pixels(torch.zeros(363, 3, dtype=torch.int32), c.sizes, c, 1, 0, 0)
    with pytest.raises(ValueError, match=r"expected 1 ... 2147483647 blocks of pixels to draw from, got 0"):
        nothing = torch.zeros(0, dtype=torch.int32)
        ops.sample_pixels(numbered_images(), c.sizes, c, 1, 0, 0, blocks=nothing)
    for blocks, found in (([0, 9], r"0 \.\.\. 9"), ([-1], r"-1 \.\.\. -1")):
        with pytest.raises(ValueError, match=rf"blocks must lie in 0 \.\.\. 8 for these sizes, got {found}"):
            listed = torch.tensor(blocks, dtype=torch.int32)
            ops.sample_pixels(numbered_images(), c.sizes, c, 1, 0, 0, blocks=listed)


def test_sizes_and_blocks_are_checked_again_when_they_change() -> None:
    c, sizes = views(), views().sizes.clone()
    blocks = torch.tensor([3], dtype=torch.int32)
    for _ in range(2):
        ops.sample_pixels(numbered_images(), sizes, c, 1, 0, 0, blocks=blocks)
    blocks[0] = 100
    with pytest.raises(ValueError, match="blocks must lie in"):
        ops.sample_pixels(numbered_images(), sizes, c, 1, 0, 0, blocks=blocks)
    sizes[0] += 1
    with pytest.raises(ValueError, match="values must be"):
        ops.sample_pixels(numbered_images(), sizes, c, 1, 0, 0)


@pytest.mark.parametrize("n", SIZES)
def test_colours_over_one_background(n: int) -> None:
    rgba, color = uniform(n, 4), torch.tensor([0.1, 0.5, 0.9])
    wide = strided(rgba)
    for source in (rgba, wide):
        rgb, background = ops.over_background(source, color)
        assert torch.equal(background, color.expand(n, 3))
        alpha = rgba[:, 3:].double()
        expected = alpha * rgba[:, :3].double() + (1 - alpha) * color.double()
        assert_close(rgb, expected, roundings=3)  # two products and a sum of values up to 1


def test_random_backgrounds_are_uniform_and_differ_from_step_to_step() -> None:
    rgba = uniform(4096, 4)
    rgb, background = ops.over_background(rgba, seed=1, step=2)
    assert torch.equal(rgb, rgba[:, 3:] * rgba[:, :3] + (1 - rgba[:, 3:]) * background)
    n = background.numel()
    assert background.min() >= 0 and background.max() < 1
    assert abs(background.mean() - 0.5) < 4 * math.sqrt(1 / 12 / n)
    assert abs(background.var() - 1 / 12) < 4 * math.sqrt(1 / 180 / n)
    correlation = torch.corrcoef(background.T).fill_diagonal_(0)
    assert correlation.abs().max() < 4 / math.sqrt(4096)
    assert torch.equal(ops.over_background(rgba, seed=1, step=2)[1], background)
    for other in ({"seed": 1, "step": 3}, {"seed": 2, "step": 2}):
        assert (ops.over_background(rgba, **other)[1] == background).float().mean() < 0.001


def test_opcheck_of_backgrounds() -> None:
    for color in (None, torch.ones(3)):
        opcheck(torch.ops.neurfield.over_background.default, (uniform(5, 4), color, 1, 2))


def test_errors_of_backgrounds() -> None:
    with pytest.raises(ValueError, match=r"over_background: rgba must be float32 \[n, 4\], got float32 \[2, 3\]"):
        ops.over_background(torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"over_background: color must be float32 \[3\], got float32 \[4\]"):
        ops.over_background(torch.zeros(2, 4), torch.zeros(4))
