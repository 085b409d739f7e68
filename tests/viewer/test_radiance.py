# SPDX-License-Identifier: Apache-2.0
"""The stage of radiance fields, and the poses and boxes that pages send."""

import dataclasses
import math

import pytest
import torch

from neurfield.cameras.cameras import PANORAMA
from neurfield.errors import UserError
from neurfield.rendering.renderer import Renderer
from neurfield.run import Run
from neurfield.viewer import shown_run
from neurfield.viewer.look import CropBox, Eye, Look, matrix_from_viser, triple, viser_pose
from neurfield.viewer.photos import fitted_into, photos_of_run
from neurfield.viewer.radiance import MODES, image_of, normals_of_depth
from tests.scenes import RADIUS, ball_scene, orbit, write_transforms


def no_step(part: float) -> None:
    pass


@pytest.fixture(scope="module")
def stage(run):
    return shown_run(run).stage


def test_poses_go_to_viser_and_back():
    for pose in orbit(5):
        wxyz, position = viser_pose(pose)
        assert torch.allclose(matrix_from_viser(wxyz, position), pose, atol=1e-6)


def test_an_eye_is_a_pinhole_with_the_vertical_field_of_view():
    wxyz, position = viser_pose(orbit(5)[1])
    camera = Eye(wxyz, position, math.radians(90), 200, 100).camera(100, 50)
    assert camera.sizes.tolist() == [[100, 50]]
    assert torch.allclose(camera.intrinsics, torch.tensor([[25.0, 25.0, 50.0, 25.0]]), atol=1e-4)


def test_a_turned_box_contains_what_it_must():
    half = math.sqrt(0.5)
    box = CropBox((1.0, 0.0, 0.0), (4.0, 1.0, 1.0), (half, 0.0, 0.0, half))  # a quarter turn around z: long in y
    points = torch.tensor([[1.0, 1.9, 0.0], [2.9, 0.0, 0.0], [1.4, 0.0, 0.4], [1.0, 0.0, 0.6]])
    assert box.inside(points).tolist() == [True, False, True, False]


def test_crop_removes_what_is_outside_and_nothing_else(stage, run):
    camera = run.cameras[0]
    whole = stage.paint(camera, Look(), no_step, True).image
    box = CropBox((0.0, 0.0, -2.0), (4.0, 4.0, 4.0))  # the lower half
    cut = stage.paint(camera, Look(crop=box), no_step, True).image
    middle = camera.sizes[0, 1] // 2
    upper, lower = slice(0, int(middle) - 6), slice(int(middle) + 12, None)
    assert (cut[upper] - 1.0).abs().mean() < 0.02 < (whole[upper] - 1.0).abs().mean()
    assert (cut[lower] - whole[lower]).abs().max() < 0.02


def test_background_is_the_pages(stage, run):
    image = stage.paint(run.cameras[0], Look(background=(0.0, 0.5, 1.0)), no_step, True).image
    assert torch.allclose(image[0, 0], torch.tensor([0.0, 0.5, 1.0]), atol=1e-5)
    assert (stage.renderer(Look()).background == 1).all()  # that of other pages is not touched


def test_the_nearest_view_is_itself(stage, run):
    for view in run.views.splits["train"][:4]:
        assert stage.nearest(run.cameras[view]) == view


def test_a_panorama_is_near_whichever_way_one_looks(run):
    views, (first, second) = run.cameras, run.views.train[:2]
    models = views.models.clone()
    models[first] = PANORAMA
    stage = dataclasses.replace(shown_run(run).stage, cameras=dataclasses.replace(views, models=models))
    between = dataclasses.replace(views[second], c2w=views.c2w[[second]].clone())
    between.c2w[0, :, 3] = 0.55 * views.c2w[first, :, 3] + 0.45 * views.c2w[second, :, 3]
    assert shown_run(run).stage.nearest(between) == second and stage.nearest(between) == first


def test_error_is_small_where_the_field_is_right(stage, run):
    error = stage.paint(run.cameras[0], Look(mode="error"), no_step, True)
    assert "view 0" in error.note
    # dark is no error; the corner is empty in both
    assert error.image[0, 0].max() < 0.12
    assert error.image.mean() < 0.25


def test_depth_for_the_scene_is_along_the_axis(stage, run):
    camera = run.cameras[0]
    depth = stage.paint(camera, Look(with_depth=True), no_step, True).depth
    distance = float(camera.c2w[0, :, 3].norm())
    assert float(depth[32, 32]) == pytest.approx(distance - RADIUS, abs=0.1)
    assert depth[0, 0] == 0
    assert stage.paint(camera, Look(), no_step, True).depth is None


# what a picture takes: nothing that is not shown is rendered
RENDERED = {
    "colour": {"rgb"}, "depth": {"depth", "accumulation"}, "normals": {"normal"}, "opacity": {"accumulation"},
    "occupancy": {"occupancy"}, "cost": {"samples"}, "error": {"rgb"},
}  # fmt: skip


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_rendered_that_is_not_shown(stage, run, mode, monkeypatch):
    asked = []
    whole = Renderer.render
    monkeypatch.setattr(Renderer, "render", lambda *args, **names: asked.append(set(args[2])) or whole(*args, **names))
    stage.paint(run.cameras[0], Look(mode), no_step, True)
    assert asked == [RENDERED[mode]]
    # things in the scene are hidden by what is seen, but not by the cells
    asked.clear()
    painted = stage.paint(run.cameras[0], Look(mode, with_depth=True), no_step, True)
    if mode in ("occupancy", "cost", "error"):  # an error is seen from elsewhere
        assert painted.depth is None
    else:
        assert asked == [RENDERED[mode] | {"depth", "accumulation"}] and painted.depth is not None
    asked.clear()
    stage.paint(run.cameras[0], Look(mode), no_step, False)
    assert asked == [RENDERED["depth"] if mode == "normals" else RENDERED[mode]]


@pytest.mark.parametrize("mode", MODES)
def test_a_picture_is_drawn_where_it_was_rendered(stage, run, mode):
    """Elsewhere than the camera, the background and the photo."""
    if mode == "cost":
        pytest.skip("reads its largest value, which tensors without values have not")
    shapes = {"rgb": (6, 8, 3), "normal": (6, 8, 3), "occupancy": (6, 8, 3), "depth": (6, 8), "accumulation": (6, 8)}
    result = {name: torch.empty(shapes[name], device="meta") for name in RENDERED[mode]}
    depth, photo = torch.empty(6, 8, device="meta"), torch.empty(60, 80, 3)
    look = Look(mode, depth_range=(1.0, 2.0))
    image = image_of(result, depth, run.cameras[0], look, torch.zeros(3), photo)
    assert image.shape == (6, 8, 3) and image.device.type == "meta"


def test_normals_of_a_depth_lie_where_it_does(run):
    """What would be made on the default device cannot meet it."""
    camera = run.cameras[0]
    depth = torch.rand(camera.sizes[0].flip(0).tolist(), generator=torch.Generator().manual_seed(1)) + 1
    here = normals_of_depth(depth, camera)
    with torch.device("meta"):
        assert torch.equal(normals_of_depth(depth, camera), here)


def test_normals_of_the_draft_and_of_the_final_agree(stage, run):
    camera = run.cameras[0]
    draft, final = (stage.paint(camera, Look(mode="normals"), no_step, is_final).image for is_final in (False, True))
    part = (slice(24, 40), slice(24, 40))
    a, b = (torch.nn.functional.normalize(2 * image[part] - 1, dim=2) for image in (draft, final))
    # a small field's normals are rough; crossed or mirrored axes would give 0 or -1
    assert (a * b).sum(2).mean() > 0.7
    back = camera.c2w[0, :, 2]
    assert (a @ back).mean() > 0.8


def test_what_a_step_raises_ends_the_picture(stage, run):
    class Enough(Exception):
        pass

    def step(part: float) -> None:
        raise Enough

    for mode in stage.modes:
        with pytest.raises(Enough):
            stage.paint(run.cameras[0], Look(mode=mode), step, True)


def with_data(run, data):
    config = dataclasses.replace(run.config, data=data)
    return Run(config, run.views, run.field, run.grid, run.step)


def test_photos_that_are_gone_are_one_line(run, tmp_path):
    for data, message in (
        (str(tmp_path / "nowhere"), "no longer there"),
        ("", "does not know where its data are"),
    ):
        with pytest.raises(UserError, match=message):
            photos_of_run(with_data(run, data)).image(0, torch.ones(3))


def test_photos_of_other_views_are_refused(run, tmp_path):
    scene = ball_scene(16, 2, 64)  # of conftest.data
    same = write_transforms(scene, tmp_path / "same")
    assert photos_of_run(with_data(run, str(same))).image(0, torch.ones(3)).shape == (64, 64, 3)
    turned = dataclasses.replace(scene, cameras=dataclasses.replace(scene.cameras, c2w=scene.cameras.c2w.flip(0)))
    other = write_transforms(turned, tmp_path / "other")
    with pytest.raises(UserError, match=r"other: its 16 train views, .* are not those of"):
        photos_of_run(with_data(run, str(other))).image(0, torch.ones(3))


def test_fitted_into_keeps_the_shape():
    image = torch.ones(10, 20, 3)
    out = fitted_into(image, 40, 40)
    assert out.shape == (40, 40, 3)
    assert (out[10:30] == 1).all() and (out[:10] < 0.2).all() and (out[30:] < 0.2).all()


def test_what_is_no_run_is_told():
    with pytest.raises(UserError, match="expected a run, got object"):
        shown_run(object())


def test_triple():
    assert triple([1, 2.5, 3]) == (1.0, 2.5, 3.0)
