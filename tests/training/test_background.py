# SPDX-License-Identifier: Apache-2.0
"""What lies behind the object of a scene, where the configuration leaves that to the images."""

from dataclasses import replace

import pytest
import torch

from neurfield.rendering.color import BACKGROUNDS, over_background
from neurfield.training.background import like_teacher, with_background
from neurfield.training.method import RunConfig, load_method
from neurfield.training.radiance_task import RadianceTask
from tests.scenes import ball_scene


def laid_over(color: str):
    scene = ball_scene(n_train=6, n_test=1, size=16)
    behind = torch.tensor(BACKGROUNDS[color])
    images = [(over_background(image, behind) * 255).round().to(torch.uint8) for image in scene.images]
    return replace(scene, images=images)


@pytest.mark.parametrize("color", BACKGROUNDS)
def test_the_colour_of_opaque_renderings_is_learned_and_drawn_behind(color: str) -> None:
    task = RadianceTask(laid_over(color), RunConfig(method=load_method("ngp-fast")))
    assert task.config.method.background == task.config.method.training.background == color
    assert task.renderer.background.tolist() == list(BACKGROUNDS[color])
    behind = task._batch(0, 0.0).background
    assert torch.equal(behind, torch.tensor(BACKGROUNDS[color]).expand_as(behind))
    assert any(color in note for note in task.notes)


def test_photos_cut_out_images_and_what_is_asked_for_stay_as_they_were() -> None:
    auto = RunConfig(method=load_method("ngp-fast"))
    cut_out = ball_scene(n_train=6, n_test=1, size=16)
    photos = [torch.randint(256, (16, 16, 3), dtype=torch.uint8) for _ in cut_out.images]
    for scene in (cut_out, replace(cut_out, images=photos)):
        method = with_background(auto, scene).method
        assert method.training.background == "random" and method.background == "white"
    asked = RunConfig(method=load_method("ngp-fast", ("training.background=random",)))
    assert with_background(asked, laid_over("black")) is asked
    assert RadianceTask(laid_over("black"), asked).notes == []
    black = with_background(RunConfig(method=load_method("ngp-fast", ("background=black",))), laid_over("white")).method
    assert (black.training.background, black.background) == ("white", "black")


def test_a_student_has_the_backgrounds_of_its_teacher() -> None:
    teacher = with_background(RunConfig(method=load_method("ngp-fast")), laid_over("black")).method
    student = like_teacher(load_method("kilonerf"), teacher)
    assert (student.training.background, student.background) == ("black", "black")
    asked = load_method("kilonerf", ("training.background=random",))
    assert like_teacher(asked, teacher) is asked
