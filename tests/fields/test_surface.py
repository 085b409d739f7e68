# SPDX-License-Identifier: Apache-2.0
"""Density around a surface: its formula and derivative, the sphere that it begins with, and what its loss punishes."""

import math

import pytest
import torch

from neurfield import ops
from neurfield.config import Block
from neurfield.errors import UserError
from neurfield.fields.outward import outward
from neurfield.fields.surface import SurfaceConfig, SurfaceField
from tests.cases import uniform

BOX = (-0.5, -0.5, -0.5, 1.5, 1.5, 1.5)
GRID = Block(otype="HashGrid", n_levels=4, log2_hashmap_size=10, base_resolution=4)


def field_of(spread: float = 0.0, **config: object) -> SurfaceField:
    """A field whose network gives 0 everywhere, or, with `spread`, noise."""
    torch.manual_seed(3)
    precise = {"table_precision": "fp32", "network_precision": "fp32", "reach": 100.0, **config}
    field = SurfaceConfig(encoding=GRID, max_resolution=16, **precise).build(BOX)
    field.encoding.params.data = spread * (2 * torch.rand_like(field.encoding.params) - 1)
    if not spread:
        field.density_network.params.data.zero_()
    return field


@torch.no_grad()
def test_it_begins_with_a_sphere():
    field, x = field_of(radius=0.3), uniform(100, 3, low=-0.5, high=1.5)
    torch.testing.assert_close(field.distance(x), (x - 0.5).norm(dim=1) - 0.3)


@torch.no_grad()
@pytest.mark.parametrize("beta", [0.1, 0.01, 0.001])
def test_density_is_laplaces_distribution_of_the_distance(beta):
    """Against torch's own distribution in float64, times 1 / beta or 50.

    A rounding of f counts f / beta times, at most 1000 here.
    """
    field, x = field_of(1.0, beta_start=beta, beta_end=beta), uniform(500, 3, low=0.1, high=0.9)
    sigma, features = field.density(x)
    f = field.distance(x).double()
    alpha = max(1 / beta, 50.0)
    exact = torch.distributions.Laplace(0.0, float(field.beta)).cdf(-f) * alpha
    assert (f < 0).any() and (f > 0).any() and features.shape == (500, 16)
    near = f.abs() < 20 * beta  # farther away it is 0 or alpha but for what float32 cannot say
    torch.testing.assert_close(sigma.double()[near], exact[near], rtol=1000 * 2**-22, atol=0.0)
    torch.testing.assert_close(sigma.double(), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("reach", [100.0, 0.5])
def test_outward_is_the_distances_gradient_within_reach_and_by_differences_beyond(reach):
    field = field_of(1.0, reach=reach)
    x, length = uniform(300, 3, low=-0.4, high=1.4), torch.linspace(0.01, 0.02, 300)
    near = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(field.distance(near).sum(), near)
    beyond = outward(lambda places: field.density(places)[0], x, length).detach()
    is_far = (x - 0.5).norm(dim=1) > reach
    assert is_far.any() == (reach < 1) and not is_far.all()
    expected = torch.nn.functional.normalize(torch.where(is_far[:, None], beyond, slope), dim=1)
    with torch.no_grad():  # as a view is drawn
        got = field.outward(x, length)
    torch.testing.assert_close(got, expected, rtol=0.0, atol=2e-3)


def test_the_density_leads_back_to_the_distance():
    """dsigma/df = -alpha e^(-|f|/beta) / (2 beta) on both sides."""
    field = field_of(1.0, beta_start=0.05, alpha=30)
    x = uniform(200, 3, low=-0.5, high=1.5).requires_grad_()
    (got,) = torch.autograd.grad(field.density(x)[0].sum(), x)
    (slope,) = torch.autograd.grad(field.distance(x).sum(), x)
    f, beta = field.distance(x).detach(), float(field.beta)
    torch.testing.assert_close(
        got, slope * (-30 * torch.exp(-f.abs() / beta) / (2 * beta))[:, None], rtol=1e-4, atol=1e-4
    )


@torch.no_grad()
def test_what_is_out_of_reach_has_the_density_of_other_fields():
    """Only where something is behind the object: in the unit cube all is within reach."""
    field, x = field_of(1.0, reach=0.5), uniform(300, 3, low=-0.5, high=1.5)
    sigma, features = field.density(x)
    far = (x - 0.5).norm(dim=1) > 0.5
    assert far.any() and not far.all()
    torch.testing.assert_close(sigma[far], features[far, 0].exp())
    torch.testing.assert_close(sigma[~far], field_of(1.0).density(x[~far])[0])
    config = SurfaceConfig(encoding=GRID, max_resolution=16)
    assert config.build((0, 0, 0, 1, 1, 1)).reach is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@torch.no_grad()
def test_the_fused_density_is_the_same(precision):
    field, x = field_of(1.0, network_precision=precision), uniform(300, 3, low=0.25, high=0.75)
    field.begin_step(0.3)
    f = field.distance(x)
    assert (f < 0).any() and (f > 0).any()
    fused = field.fused()
    assert fused is not None and fused.surface is field.surface
    # sigma changes by the error of f over beta: of h some 30 roundings of float32; with products in bfloat16,
    # of which few are rounded otherwise, one of those: 2^-8
    largest = float(field.features(x)[:, 0].abs().max())
    error = float(field.surface[2]) * largest * (30 * 2**-24 if precision == "fp32" else 2**-8) + 4 * 2**-24
    bound = math.expm1(error / float(field.beta))
    torch.testing.assert_close(ops.fused_density(fused, x), field.density(x)[0], rtol=bound, atol=0.0)
    before = ops.fused_density(fused, x)
    field.begin_step(1.0)
    assert not torch.equal(ops.fused_density(fused, x), before), "beta is read at every call"


def test_beta_falls_exponentially_and_then_stays():
    field = field_of(beta_start=0.04, beta_end=0.01)
    for progress, beta in ((0.0, 0.04), (0.4, 0.02), (0.8, 0.01), (1.0, 0.01)):
        field.begin_step(progress)
        assert float(field.beta) == pytest.approx(beta)


def test_the_loss_of_a_sphere_is_that_of_its_bend():
    """|grad f| = 1; and the mean over the corners of a tetrahedron of circumradius e is f + e^2 / 6 laplacian(f), the
    laplacian of a distance to a point being 2 / r."""
    x = 0.5 + torch.nn.functional.normalize(uniform(64, 3, low=-1), dim=1) * 0.4
    field = field_of(eikonal=1.0, curvature=0.0, beta_start=0.002)
    assert field.shape_loss(field.shape_points(x)).item() < 1e-6
    field = field_of(eikonal=0.0, curvature=1.0, beta_start=0.05, beta_end=0.05)
    wanted = (0.05 / 6 * 2 / 0.4) ** 2
    assert field.shape_loss(field.shape_points(x)).item() == pytest.approx(wanted, rel=0.05)


def test_the_loss_of_a_steep_distance_is_its_slope(monkeypatch):
    field, x = field_of(eikonal=0.5, curvature=0.0), uniform(64, 3, low=0.1, high=0.9)
    monkeypatch.setattr(field, "_distance", lambda features, x: 3 * x[:, 1])
    assert field.shape_loss(field.shape_points(x)).item() == pytest.approx(0.5 * (3 - 1) ** 2, rel=1e-4)


def test_corners_are_at_the_distance_of_beta():
    field, x = field_of(beta_start=0.03), uniform(7, 3)
    corners = field.shape_points(x).view(5, 7, 3)
    assert torch.equal(corners[4], x)
    torch.testing.assert_close((corners[:4] - x).norm(dim=2), torch.full((4, 7), 0.03))
    torch.testing.assert_close(corners[:4].mean(dim=0), x)
    sides = (corners[0] - corners[1]).norm(dim=1)
    torch.testing.assert_close(sides, torch.full((7,), 0.03 * math.sqrt(8 / 3)))


def test_what_does_not_fit_is_one_line():
    with pytest.raises(UserError, match=r"field.beta_end: expected at most beta_start, 0.1, got 0.2"):
        SurfaceConfig(beta_end=0.2)
    with pytest.raises(UserError, match=r"field.appearance_channels: a surface field has none"):
        SurfaceConfig(appearance_channels=4)
