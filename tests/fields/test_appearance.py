# SPDX-License-Identifier: Apache-2.0
"""The look of a photo: what the field gives, and what is left when one look is built in."""

import pytest
import torch
from torch import Tensor

from neurfield.config import Block
from neurfield.data.scene import Normalization
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_field import FieldConfig, RadianceField
from neurfield.fields.radiance_module import Conditioned
from neurfield.rendering.renderer import Renderer
from neurfield.sampling.occupancy_grid import OccupancyGrid
from tests.cases import uniform

BOX = (0.0, 0.0, 0.0, 1.0, 1.0, 1.0)
GRID = Block(otype="HashGrid", n_levels=4, log2_hashmap_size=10, base_resolution=4, init_range=0.5)


def field(n_channels: int = 5, n_views: int = 3, **keys: object) -> RadianceField:
    """Whose views differ."""
    torch.manual_seed(0)
    config = FieldConfig(GRID, appearance_channels=n_channels, network_precision="fp32", table_precision="fp32", **keys)
    made = config.build(BOX, n_views)
    assert made.appearance is not None and not made.appearance.any()
    made.appearance.data.normal_()
    return made


def rays(n: int) -> tuple[Tensor, Tensor]:
    return uniform(n, 3, seed=1), torch.nn.functional.normalize(uniform(n, 3, seed=2) - 0.5, dim=1)


def one(view: int) -> Conditions:
    return Conditions(views=torch.tensor([view]))


# with 32 other inputs of the colour network: padded with 11 ones or none, a second block of 16, and without room beside
@pytest.mark.parametrize(("n_channels", "n_geo"), [(5, 16), (16, 16), (20, 16), (3, 9)])
@torch.no_grad()
def test_a_look_that_is_built_in_gives_the_same_colours(n_channels: int, n_geo: int) -> None:
    made = field(n_channels, n_geo_features=n_geo)
    x, d = rays(200)
    for conditions in (one(0), one(2), Conditions()):
        still = made.at(conditions)
        assert isinstance(still, RadianceField) and still.needs == () and still.appearance is None
        sigma, rgb = still(x, d)
        own_sigma, own_rgb = Conditioned(made, conditions)(x, d)
        assert torch.equal(sigma, own_sigma)
        # a weight of the first layer is a sum in another order: a few roundings of values around 1
        torch.testing.assert_close(rgb, own_rgb, atol=2e-6, rtol=0)
        assert still.fused() is not None and made.fused() is None
        assert torch.equal(still.encoding.params, made.encoding.params)
    assert (made.at(one(0))(x, d)[1] - made.at(one(2))(x, d)[1]).abs().max() > 0.05


@torch.no_grad()
def test_the_fused_renderer_draws_a_look() -> None:
    made, grid = field(), OccupancyGrid(1, resolution=16)
    x, d = rays(64)
    assert made.fused_render() is None
    pictures = []
    for shown in (made, made.at(one(1)), Conditioned(made, one(1))):
        renderer = Renderer(shown, grid, Normalization(1.0, (0.0, 0.0, 0.0)))
        pictures.append(renderer.render_rays(x - 2 * d, d, ("rgb", "depth"), conditions=one(1)))
    own, still, apart = pictures
    assert torch.equal(own["rgb"], still["rgb"])
    # the bound of the fused renderer against the composed one: a ray may end one sample later
    torch.testing.assert_close(own["rgb"], apart["rgb"], atol=2e-4, rtol=0)
    torch.testing.assert_close(own["depth"], apart["depth"], atol=1e-3, rtol=0)


def test_each_position_has_the_look_of_its_view() -> None:
    made, n = field(), 60
    x, d = rays(n)
    views = torch.arange(n) % 3
    rgb = made(x, d, Conditions(views=views))[1]
    for view in range(3):
        torch.testing.assert_close(rgb[views == view], made(x, d, one(view))[1][views == view])
    rgb[views == 1].sum().backward()
    assert made.appearance is not None and made.appearance.grad is not None
    assert made.appearance.grad.abs().amax(1).ne(0).tolist() == [False, True, False]


def test_without_a_view_it_is_the_mean() -> None:
    made = field()
    x, d = rays(20)
    assert made.appearance is not None
    mean = made.appearance.detach().mean(0)
    rgb = made(x, d)[1]
    made.appearance.data[:] = mean
    torch.testing.assert_close(rgb, made(x, d, one(2))[1], atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_modulated_colour_network_keeps_its_look_apart() -> None:
    network = Block(otype="MLP", n_neurons=16, n_hidden_layers=1, modulation=Block(resolution=(4, 4, 4)))
    made = field(color_network=network)
    x, d = rays(20)
    still = made.at(one(1))
    assert isinstance(still, Conditioned) and still.needs == ()
    assert torch.equal(still(x, d)[1], made(x, d, one(1))[1])


def test_a_field_without_appearance_is_its_own_look() -> None:
    made = FieldConfig(GRID).build(BOX, 3)
    assert made.at(one(2)) is made and made.needs == ()
