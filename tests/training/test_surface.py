# SPDX-License-Identifier: Apache-2.0
"""Training of a surface: the ball comes out round, runs keep it, and what cannot train it says so."""

import dataclasses
import math
from pathlib import Path

import pytest
import torch
import trimesh

from neurfield import ops
from neurfield import run as runs
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from neurfield.export.web_page import export_web
from neurfield.training.shape_step import ShapeStep
from neurfield.training.view_set import ViewSet
from tests.scenes import RADIUS, ball_scene, radiance_trainer
from tests.training.test_trainer import assert_same_state, small_config, taken_up, trained

SURFACE = (
    "field.otype=surface",
    "sampler.step_scale=1",
    "field.n_shape_points=512",
)


@pytest.fixture(scope="module")
def scene():
    return ball_scene()


@pytest.fixture(scope="module")
def ball(scene):
    return trained(scene, small_config(*SURFACE, steps=150))


def mesh_of(scene, trainer, path: Path):
    run = runs.from_task(trainer.task, trainer, ViewSet.of_scene(scene), scene=scene)
    run.export_mesh(path, resolution=64, overwrite=True)
    return run, trimesh.load(path, process=False)


@torch.no_grad()
def distances_on_the_ball(field, scene) -> torch.Tensor:
    """What the field says there, in world units."""
    outward = torch.nn.functional.normalize(torch.randn(500, 3, generator=torch.Generator().manual_seed(1)), dim=1)
    return field.distance(scene.normalization.to_unit(RADIUS * outward)) / scene.normalization.scale


def test_the_ball_comes_out_round(scene, ball, tmp_path):
    run, mesh = mesh_of(scene, ball, tmp_path / "ball.ply")
    off = distances_on_the_ball(run.field, scene)
    assert float(off.abs().mean()) < 0.01 * RADIUS, off.mean()
    radii = torch.tensor(mesh.vertices).norm(dim=1)
    assert float((radii - RADIUS).abs().mean()) < 0.02 * RADIUS, radii.mean()  # half of it is a cell of the mesh
    outward = torch.nn.functional.normalize(torch.tensor(mesh.vertices).double(), dim=1)
    cosine = (outward * torch.tensor(mesh.vertex_normals).double()).sum(dim=1)
    assert float(torch.rad2deg(cosine.clamp(-1, 1).arccos()).mean()) < 8
    assert run.evaluate("test")["psnr"] > 27
    export_web(run, tmp_path / "ball.html")


def test_the_shape_loss_makes_its_distances_distances(scene):
    """Near the ball, of a network that counts so much that without the loss the slope is anything."""
    random = torch.Generator().manual_seed(1)
    x = 0.5 + torch.nn.functional.normalize(torch.randn(500, 3, generator=random), dim=1) * 0.33 * RADIUS
    x = (x + 0.01 * torch.randn(500, 3, generator=random)).requires_grad_()

    def error(*overrides: str) -> float:
        field = trained(scene, small_config(*SURFACE, "field.scale=1", *overrides, steps=100)).task.field
        (slope,) = torch.autograd.grad(field.distance(x).sum(), x)
        return float((slope.norm(dim=1) - 1).abs().mean())

    assert error() < 0.25  # at most 0.11 with three seeds, and without the loss at least 6
    assert error("field.eikonal=0", "field.curvature=0") > 2


def in_a_room(scene: Scene) -> Scene:
    """The same, opaque, between green walls."""
    images = []
    for image in scene.images:
        alpha = image[..., 3:] / 255
        over = alpha * image[..., :3] + (1 - alpha) * torch.tensor([40.0, 120.0, 60.0])
        images.append(over.round().to(torch.uint8))
    return dataclasses.replace(
        scene, images=images, normalization=dataclasses.replace(scene.normalization, aabb_scale=4)
    )


def test_the_ball_in_a_room_comes_out_round(scene):
    """Nothing but the views says that it is not the walls; it begins too small by a fourth."""
    room = in_a_room(scene)
    trainer = trained(room, small_config(*SURFACE, "field.radius=0.2", "field.beta_start=0.05", steps=200))
    assert any("looks for a surface within 1.52 of (0, 0, 0);" in note for note in trainer.task.notes)
    off = distances_on_the_ball(trainer.task.field, room)
    assert float(off.abs().mean()) < 0.02 * RADIUS, off.mean()
    run = runs.from_task(trainer.task, trainer, ViewSet.of_scene(room), scene=room)
    assert run.evaluate("train")["psnr"] > 22  # few views: what stands behind the ball in others is a guess


def test_places_of_the_shape_loss_are_within_reach(scene):
    task = radiance_trainer(in_a_room(scene), small_config(*SURFACE, "field.reach=0.4")).task
    workspace = ops.FusedWorkspace(task.field.fused(), 1 << 15)
    n = workspace.slot_counts.numel()
    workspace.slot_counts.fill_(workspace.positions.shape[1] // n)
    workspace.positions.copy_(torch.rand(workspace.positions.shape))
    r = (ShapeStep(task.field, workspace, seed=3)._places(7) - 0.5).norm(dim=1)
    assert float(r.max()) <= 0.4 + 1e-6
    # evenly in the ball, as the samples were and as what replaces the others is
    assert float(((r / 0.4) ** 3).mean()) == pytest.approx(0.5, abs=0.05)


def test_a_step_adds_the_gradients_of_the_shape_loss(scene):
    """Those of autograd, at the same places: to the table by the workspace, and to the network."""
    task = radiance_trainer(scene, small_config(*SURFACE)).task
    field = task.field
    workspace = ops.FusedWorkspace(field.fused(), 1 << 15)
    workspace.grad_density.zero_()
    shape = ShapeStep(field, workspace, seed=3)
    places = shape._places(7)
    assert torch.equal(places, shape._places(7)) and not torch.equal(places, shape._places(8))
    assert ((places >= field.low) & (places <= field.low + 1 / field.inverse_size)).all()
    loss = field.shape_loss(field.shape_points(places))
    table, network = torch.autograd.grad(loss, [field.encoding.params, field.density_network.params])
    assert shape.add(7) == pytest.approx(loss.item(), rel=1e-5)
    for got, wanted in ((ops.fused_table_gradient(workspace), table), (workspace.grad_density, network)):
        assert float(wanted.norm()) > 0
        assert float((got - wanted).norm()) < 1e-4 * float(wanted.norm())


def test_a_bad_shape_changes_nothing(scene):
    trainer = radiance_trainer(scene, small_config(*SURFACE))
    with torch.no_grad():
        trainer.task.field.density_network.params[0] = math.nan
    before = {name: value.clone() for name, value in trainer.task.field.named_parameters()}
    workspace = ops.FusedWorkspace(trainer.task.field.fused(), 1 << 15)
    assert math.isnan(ShapeStep(trainer.task.field, workspace, seed=3).add(1))
    for name, value in trainer.task.field.named_parameters():
        assert torch.equal(value.nan_to_num(), before[name].nan_to_num())


def test_a_mesh_of_a_large_box_is_where_the_distance_is_almost_zero(tmp_path):
    """The sphere that training begins with, in cells of 8 / 128, inside of the hull that is seen, 0.26.

    Depths tell it to half a cell.
    """
    scene = ball_scene()
    scene = dataclasses.replace(scene, normalization=dataclasses.replace(scene.normalization, aabb_scale=8))
    trainer = radiance_trainer(
        scene, small_config(*SURFACE, "field.radius=0.2", "field.beta_start=0.02", "field.reach=7")
    )
    with torch.no_grad():
        trainer.task.field.density_network.params.zero_()
    run = runs.from_task(trainer.task, trainer, ViewSet.of_scene(scene), scene=scene)
    for level, low, high in ((None, 0.17, 0.235), (2.0, 0.2, 0.25)):
        path = tmp_path / f"{level}.ply"
        run.export_mesh(path, resolution=128, extent=8, frame="unit", surface="closed", level=level)
        radii = torch.tensor(trimesh.load(path, process=False).vertices - 0.5).norm(dim=1)
        assert low < float(radii.mean()) < high


def test_two_runs_are_equal_and_resume_is_exact(scene, tmp_path):
    config = small_config(*SURFACE, steps=24)
    whole = trained(scene, config)
    assert_same_state(whole, taken_up(scene, config, 11, tmp_path))


@pytest.mark.parametrize(
    "overrides, message",
    [
        (("sampler.otype=OccGridEstimator",), "the surface field is trained with sampler grid, not OccGridEstimator"),
        (("loss.color={otype: L1}",), "the surface field is trained with the colour losses L2 and Huber, not L1"),
        (
            ("field.direction_encoding={otype: Frequency, n_frequencies: 2}",),
            "the surface field is trained by the fused step, which does not take it: the direction encoding is",
        ),
    ],
)
def test_what_cannot_train_it_is_one_line(scene, overrides, message):
    with pytest.raises(UserError, match=message):
        radiance_trainer(scene, small_config(*SURFACE, *overrides))
