# SPDX-License-Identifier: Apache-2.0
"""Cameras that are off: how colours change with them, that training moves them towards the truth, and that runs keep
where they are."""

import dataclasses
import math

import pytest
import torch

from neurfield import run as runs
from neurfield.cameras.corrections import corrected
from neurfield.cli.main import main
from neurfield.convert.request import Request
from neurfield.convert.small import to_half, to_int8
from neurfield.data.load import load_scene
from neurfield.errors import UserError
from neurfield.sampling.pixels import PixelSampler
from neurfield.training import checkpoint
from neurfield.training.camera_refinement import color_and_change
from neurfield.training.view_set import ViewSet
from tests.data import small
from tests.scenes import ball_scene, orbit, radiance_trainer
from tests.training.test_trainer import SMALL, assert_same_state, small_config, taken_up

REFINE = "training.refine_cameras=true"
BLACK = torch.zeros(1, 3)


def textured_ball(origins: torch.Tensor, directions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """An opaque ball of radius 0.8 around the origin, whose colour changes smoothly with the place."""
    b = (origins * directions).sum(dim=1)
    t = -b - (b.square() - origins.square().sum(dim=1) + 0.64).sqrt()
    place = origins + t[:, None] * directions
    return (
        0.5 + 0.5 * torch.sin(3 * place @ torch.tensor([[1.0, 0, 2], [0, 2, 1], [1, 1, 0]], dtype=t.dtype)),
        t,
        t * 0 + 1,
    )


def test_the_change_of_colours_is_that_of_finite_differences():
    pose = orbit(5)[1:2].double()
    random = torch.Generator().manual_seed(1)
    local = torch.cat(
        [0.15 * (2 * torch.rand(64, 2, generator=random, dtype=torch.float64) - 1), -torch.ones(64, 1)], 1
    )
    local = torch.nn.functional.normalize(local, dim=1)

    def rays(correction: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        moved = corrected(pose, correction[None])[0]
        return moved[:, 3].expand(64, 3), local @ moved[:, :3].T

    background = torch.zeros(64, 3, dtype=torch.float64)
    color, change = color_and_change(textured_ball, *rays(torch.zeros(6, dtype=torch.float64)), background, 1e-4)
    torch.testing.assert_close(color, textured_ball(*rays(torch.zeros(6, dtype=torch.float64)))[0], rtol=0, atol=1e-5)
    for i, step in enumerate(1e-5 * torch.eye(6, dtype=torch.float64)):
        expected = (textured_ball(*rays(step))[0] - textured_ball(*rays(-step))[0]) / 2e-5
        assert (expected - change[:, :, i]).abs().max() < 2e-3 * max(float(expected.abs().max()), 1.0)


def noisy(scene, degrees: float = 1.5, share: float = 0.02):
    """The scene with training cameras that are off."""
    train, random = scene.splits["train"], torch.Generator().manual_seed(3)
    noise = torch.randn(len(train), 6, generator=random) * torch.tensor([math.radians(degrees)] * 3 + [3 * share] * 3)
    c2w = scene.cameras.c2w.clone()
    c2w[train] = corrected(c2w[train], noise / math.sqrt(3))
    return dataclasses.replace(scene, cameras=dataclasses.replace(scene.cameras, c2w=c2w))


def error(cameras, true) -> float:
    """In pixels: how far apart cameras draw points on the ball, after both are laid over each other as a whole."""
    points = 0.8 * torch.nn.functional.normalize(torch.randn(200, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    ours, theirs = cameras.c2w[:, :, 3], true.c2w[:, :, 3]
    a, b = (
        torch.cat([c, *(c - c2w[:, :, k] for k in range(3))]) for c, c2w in ((ours, cameras.c2w), (theirs, true.c2w))
    )
    u, s, v = torch.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    turn, scale = u @ v, s.sum() / (a - a.mean(0)).square().sum()
    moved = (points - b.mean(0)) @ turn / scale + a.mean(0)

    def drawn(c2w, world):
        local = torch.einsum("nij,npi->npj", c2w[:, :, :3], world - c2w[:, None, :, 3])
        return local[..., :2] / local[..., 2:] * true.intrinsics[:, None, :2]

    off = drawn(cameras.c2w, moved.expand(len(ours), -1, 3)) - drawn(true.c2w, points.expand(len(ours), -1, 3))
    return float(off.square().sum(-1).mean().sqrt())


@pytest.fixture(scope="module")
def true_scene():
    return ball_scene(20, 2, 48)


def test_cameras_come_nearer_to_the_truth(true_scene):
    scene = noisy(true_scene)
    trainer = radiance_trainer(scene, small_config(REFINE, steps=400))
    trainer.train()
    true, read = true_scene.cameras[scene.splits["train"]], scene.cameras[scene.splits["train"]]
    views = trainer.task.placed(ViewSet.of_scene(scene))
    before, after = error(read, true), error(views.cameras[scene.splits["train"]], true)
    assert before > 1 and after < 0.5 * before
    rest = scene.splits["test"]
    assert torch.equal(views.cameras.c2w[rest], scene.cameras.c2w[rest])  # test views are not refined


def test_nothing_moves_unless_it_is_asked_for(true_scene):
    trainer = radiance_trainer(true_scene, small_config(steps=180))
    trainer.train()
    views = ViewSet.of_scene(true_scene)
    assert trainer.task.refinement is None and trainer.task.placed(views) is views


def test_resume_is_exact(true_scene, tmp_path):
    scene, config = noisy(true_scene), small_config(REFINE, steps=180)
    whole = radiance_trainer(scene, config)
    whole.train()
    assert whole.tensors()["cameras.corrections"].abs().max() > 1e-4
    assert_same_state(whole, taken_up(scene, config, 165, tmp_path))


def test_runs_keep_where_the_cameras_are(true_scene, tmp_path):
    scene = noisy(true_scene)
    made = runs.train(scene, "ngp-fast", overrides=(*SMALL, REFINE), max_num_iterations=180, output_dir=tmp_path)
    assert made.path is not None and not torch.equal(made.cameras.c2w, scene.cameras.c2w)
    loaded = runs.load(made.path)
    assert torch.equal(loaded.cameras.c2w, made.cameras.c2w) and torch.equal(loaded.views.read.c2w, scene.cameras.c2w)
    for convert, name in ((to_half, "half"), (to_int8, "int8")):
        converted = convert(loaded, Request(tmp_path / f"{name}.safetensors"))
        assert torch.equal(converted.cameras.c2w, made.cameras.c2w)
    again = runs.train(scene, resume=made.path.parent.parent, max_num_iterations=190)
    assert again.step == 190 and torch.equal(again.views.read.c2w, scene.cameras.c2w)
    assert not torch.equal(again.cameras.c2w, made.cameras.c2w)
    # a training view is measured from where its camera is
    here = runs.Run(made.config, made.views.moved(None), made.field, made.grid, made.step, scene=scene)
    assert made.evaluate("train")["psnr"] != here.evaluate("train")["psnr"]
    assert made.evaluate("test")["psnr"] == here.evaluate("test")["psnr"]


def test_corrections_that_are_none_are_refused(true_scene, tmp_path):
    made = runs.train(true_scene, "ngp-fast", overrides=(*SMALL, REFINE), max_num_iterations=1, output_dir=tmp_path)
    tensors, header = checkpoint.load(made.path)
    checkpoint.save(made.path, tensors | {"cameras.corrections": torch.zeros(3, 6)}, header)
    with pytest.raises(UserError, match=r"cameras.corrections: expected finite numbers of shape \[20, 6\]"):
        runs.load(made.path)


def test_views_without_a_pixel_keep_their_camera():
    scene = ball_scene(3, 1, 16)
    masks = [torch.ones(16, 16, dtype=torch.uint8), None, torch.zeros(16, 16, dtype=torch.uint8)]
    pixels = PixelSampler(scene.images[:3], scene.cameras[[0, 1, 2]], masks)
    assert [pixels.of_view(view).n_blocks for view in range(3)] == [4, 4, 0]
    drawn = pixels.of_view(1).sample(500, 0)
    picture = scene.images[1].float() / 255
    x, y = drawn.picks[:, 1].long(), drawn.picks[:, 2].long()
    torch.testing.assert_close(drawn.targets, picture[y, x])
    torch.testing.assert_close(drawn.origins, scene.cameras.c2w[1, :, 3].expand(500, 3))


def test_refined_cameras_are_exported_and_read_again(tmp_path, capsys):
    small.synthetic(tmp_path / "data", {"train": 6, "test": 2})
    words = ["train", str(tmp_path / "data"), "--max-num-iterations", "180", "--output-dir", str(tmp_path / "runs")]
    assert main([*words, "--method", "ngp-fast", "--eval-split", "none", "--set", *SMALL, REFINE]) == 0
    assert "training cameras were turned by" in capsys.readouterr().out
    (folder,) = (tmp_path / "runs").glob("*/*/*/")
    made, written = runs.load(folder), tmp_path / "data" / "refined.json"
    assert main(["export", "cameras", str(folder), "--output", str(written)]) == 0
    again = load_scene(written)
    torch.testing.assert_close(again.cameras.c2w, made.cameras.c2w, rtol=1e-6, atol=2e-6)
    assert (again.cameras.c2w - load_scene(tmp_path / "data").cameras.c2w).abs().max() > 1e-4


def test_a_kilonerf_takes_the_cameras_of_its_teacher(true_scene):
    box = "field={otype: kilonerf, longest: 2, box: [0, 0, 0, 1, 1, 1], cells: [2, 2, 2], n_networks: 8}"
    with pytest.raises(UserError, match="is for its teacher"):
        runs.train(true_scene, "kilonerf", overrides=(box, REFINE), max_num_iterations=1)
