# SPDX-License-Identifier: Apache-2.0
"""Distances to meshes and what is inside, against brute force in float64."""

import itertools

import pytest
import torch

from neurfield import ops
from neurfield.reference import mesh_distance as reference
from tests.meshes import cube, icosphere, tetrahedron

SIZES = (0, 1, 31, 257, 1000)


def points(n: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 3, generator=torch.Generator().manual_seed(seed)) * 3 - 1.5


def soup(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles anywhere, of any shape, some of them segments or points."""
    vertices = torch.randn(3 * n, 3, generator=torch.Generator().manual_seed(1))
    faces = torch.arange(3 * n).view(n, 3).clone()
    for k in range(3):  # corners k and k + 1 are one
        faces[k::9, k] = faces[k::9, (k + 1) % 3]
    faces[::13] = faces[::13, :1]
    return vertices, faces


@pytest.mark.parametrize("mesh", [tetrahedron(), cube(), icosphere(2), soup(1), soup(5), soup(300)])
def test_distance_is_that_of_the_reference(mesh):
    vertices, faces = mesh
    x = points(1000)
    expected = reference.mesh_distance(vertices.double(), faces, x.double())
    actual = ops.mesh_distance(ops.mesh_tree(vertices, faces), x)
    # coordinates up to 5: differences and their squares carry a few roundings of that size; the root of a small sum of
    # squares carries them at full size
    assert (actual.double() - expected).abs().max() < 32 * torch.finfo(torch.float32).eps * 5


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("along", [0.0, 0.3, 1.0])
def test_a_triangle_without_area_is_a_segment(order, along):
    """Its third corner is an end of the segment or a point of it, in every order."""
    ends = torch.tensor([[0.1, -0.2, 0.3], [1.1, 0.7, -0.4]])
    vertices = torch.cat([ends, torch.lerp(ends[:1], ends[1:], along)])
    x = points(500, seed=5)
    axis = (ends[1] - ends[0]).double()
    t = (((x.double() - ends[0]) @ axis) / (axis @ axis)).clamp(0, 1)
    expected = (x.double() - ends[0] - t[:, None] * axis).norm(dim=1)
    actual = ops.mesh_distance(ops.mesh_tree(vertices, torch.tensor([order])), x)
    # as above, with coordinates up to 2; the corner on the segment is off it by a rounding
    assert (actual.double() - expected).abs().max() < 32 * torch.finfo(torch.float32).eps * 2


@pytest.mark.parametrize("n", SIZES)
def test_sizes_and_strides(n):
    tree = ops.mesh_tree(*icosphere(1))
    x = points(n)
    distance = ops.mesh_distance(tree, x)
    assert distance.shape == (n,) and ops.mesh_inside(tree, x, True).shape == (n,)
    strided = torch.stack([x, -x], dim=2)[..., 0]
    assert not strided.is_contiguous() or n < 2
    assert torch.equal(ops.mesh_distance(tree, strided), distance)


def test_a_ball_has_its_distance_and_inside():
    vertices, faces = icosphere(3)
    tree, x = ops.mesh_tree(vertices, faces), points(4000)
    radius = x.norm(dim=1)
    # the mesh lies between its inscribed and the unit sphere
    inscribed = float(vertices[faces].mean(dim=1).norm(dim=1).min())
    gap = 1 - inscribed
    assert ((ops.mesh_distance(tree, x) - (radius - 1).abs()).abs() <= gap + 1e-5).all()
    inside = ops.mesh_inside(tree, x, True)
    assert inside[radius < inscribed - 1e-5].all() and not inside[radius > 1 + 1e-5].any()


@pytest.mark.parametrize("mesh", [tetrahedron(), cube(), icosphere(2)], ids=["tetrahedron", "cube", "ball"])
def test_inside_is_where_the_winding_number_is_1(mesh):
    vertices, faces = mesh
    x = points(2000, seed=2)
    winding = reference.winding_number(vertices.double(), faces, x.double())
    assert torch.equal(ops.mesh_inside(ops.mesh_tree(vertices, faces), x, True), winding.abs() > 0.5)
    turned = ops.mesh_tree(vertices, faces.flip(1))
    assert torch.equal(ops.mesh_inside(turned, x, True), winding.abs() > 0.5)


def test_rays_do_not_leak_through_edges_and_corners():
    """The corners and the middles of the edges of the cube lie on lattice lines: rays from its middle meet them."""
    tree = ops.mesh_tree(*cube())
    lattice = torch.cartesian_prod(*[torch.linspace(-0.9375, 0.9375, 16)] * 3)
    assert ops.mesh_inside(tree, lattice, True).all()
    assert not ops.mesh_inside(tree, lattice + torch.tensor([3.0, 0, 0]), True).any()


def test_an_open_mesh_is_closed_by_a_film():
    """Without one of its twelve triangles, the cube keeps its inside but for the neighbourhood of the hole."""
    vertices, faces = cube()
    x = points(4000, seed=3)
    winding = reference.winding_number(vertices.double(), faces[1:], x.double())
    inside = ops.mesh_inside(ops.mesh_tree(vertices, faces[1:]), x, False)
    # 32 even directions err less than random ones, whose standard error is 0.09: five of those
    sure = (winding.abs() - 0.5).abs() > 0.45
    assert sure.float().mean() > 0.5 and torch.equal(inside[sure], winding[sure].abs() > 0.5)
    assert (inside == (winding.abs() > 0.5)).float().mean() > 0.97


def test_nan_is_far_from_everything():
    tree = ops.mesh_tree(*icosphere(1))
    assert ops.mesh_distance(tree, torch.full((2, 3), torch.nan)).isinf().all()
    assert not ops.mesh_inside(tree, torch.full((2, 3), torch.nan), True).any()


def test_threads_do_not_matter():
    tree, x = ops.mesh_tree(*icosphere(3)), points(3000)
    before = ops.mesh_distance(tree, x)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(ops.mesh_distance(tree, x), before)
    finally:
        torch.set_num_threads(threads)


def test_opcheck():
    vertices, faces = tetrahedron()
    tree, x = ops.mesh_tree(vertices, faces), points(9)
    torch.library.opcheck(torch.ops.neurfield.mesh_tree.default, (vertices, faces))
    torch.library.opcheck(torch.ops.neurfield.mesh_distance.default, (*tree, x))
    torch.library.opcheck(torch.ops.neurfield.mesh_inside.default, (*tree, x, True))


def test_wrong_input_is_refused():
    vertices, faces = tetrahedron()
    with pytest.raises(ValueError, match=r"faces must hold 1 \.\.\. 536870912 triangles, got 0"):
        ops.mesh_tree(vertices, faces[:0])
    with pytest.raises(ValueError, match=r"faces must index 4 vertices, got 0 \.\.\. 4"):
        ops.mesh_tree(vertices, faces + torch.tensor([0, 0, 1]))
    with pytest.raises(TypeError, match=r"mesh_tree: vertices must be float32 \[n, 3\], got float64 \[4, 3\]"):
        ops.mesh_tree(vertices.double(), faces)
    with pytest.raises(ValueError, match=r"mesh_distance: points must be float32 \[n, 3\], got float32 \[5, 2\]"):
        ops.mesh_distance(ops.mesh_tree(vertices, faces), torch.zeros(5, 2))
