# SPDX-License-Identifier: Apache-2.0
"""Occupancy of a mesh: labelled points, the distance made of a field, the commands, the viewer."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import neurfield
from neurfield.cli.main import main
from neurfield.data import signals
from neurfield.errors import UserError
from neurfield.export.occupancy_distance import OccupancyDistance, occupancy_mesh
from neurfield.export.sdf_mesh import sdf_mesh
from neurfield.geometry import report
from neurfield.signal_kinds import KINDS
from neurfield.training.occupancy_task import OccupancyTask
from neurfield.training.signal_method import SignalRunConfig, load_signal_method
from tests.meshes import icosphere
from tests.signals.files import write_obj, write_picture

SMALL = (
    "field.encoding.n_levels=6", "field.encoding.log2_hashmap_size=12", "field.encoding.base_resolution=8",
    "field.max_resolution=64", "training.n_samples=2048",
)  # fmt: skip
RADIUS = 0.3


class Ball(nn.Module):
    """Logits of a ball around the middle; `scale` 0 has nothing inside."""

    def __init__(self, scale: float = 40.0):
        super().__init__()
        self.scale, self.radius = scale, RADIUS

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * (self.radius - (x - 0.5).norm(dim=1, keepdim=True)) - float(self.scale == 0)


@pytest.fixture
def ball(tmp_path):
    pytest.importorskip("trimesh")
    vertices, faces = icosphere(3)
    return write_obj(tmp_path / "ball.obj", vertices, faces)


def test_the_distance_made_of_an_occupancy_field_is_that_to_its_surface():
    x = torch.rand(4000, 3, generator=torch.Generator().manual_seed(0))
    expected = (x - 0.5).norm(dim=1) - RADIUS
    distance = OccupancyDistance(Ball(), 64)(x)
    assert distance.shape == (4000, 1)
    # A chord c of a circle is c^2 / (8 r) within it; triangles have edges of up to c = 3^0.5 cells, of which 64 lie
    # along the 44 coarse cells around the ball. The logit is linear along the radius, so that vertices are on the ball.
    error = 3 * (44 / 64 / 64) ** 2 / (8 * RADIUS)
    near = expected.abs() < 1 / 64
    assert float((distance[:, 0] - expected)[near].abs().max()) < error
    assert bool((distance[:, 0].abs() < expected.abs() + error).all())  # never longer than the way there
    assert bool((distance[:, 0].abs() > expected.abs() / 3**0.5 - 4 / 64).all())
    assert torch.equal(distance[:, 0] < 0, expected < 0)


def test_the_surface_follows_the_field_when_it_has_changed():
    field, version = Ball(), [0]
    distance = OccupancyDistance(field, 64, lambda: version[0])
    x = torch.tensor([[0.5, 0.5, 0.81]])
    assert float(distance(x)) == pytest.approx(0.01, abs=3e-4)
    field.radius = 0.302
    assert float(distance(x)) == pytest.approx(0.01, abs=3e-4)  # not said
    version[0] = 1
    assert float(distance(x)) == pytest.approx(0.008, abs=3e-4)


def test_a_mesh_of_the_distance_is_that_of_the_field_at_any_resolution():
    distance = OccupancyDistance(Ball(), 64)
    found, expected = sdf_mesh(distance, 80), occupancy_mesh(distance.field, 80)
    assert np.array_equal(found.vertices, expected.vertices) and np.array_equal(found.faces, expected.faces)
    error = 3 * (44 / 64 / 80) ** 2 / (8 * RADIUS)
    assert np.abs(np.linalg.norm(found.vertices - 0.5, axis=1) - RADIUS).max() < error


def test_a_surface_at_which_logits_jump_has_no_terraces():
    """A trained field knows inside and outside for sure right beside its surface; vertices are on it all the same."""

    def steep(x):
        return 1e4 * (RADIUS - (x - 0.5).norm(dim=1, keepdim=True))

    mesh = occupancy_mesh(steep, 40)
    cell = 44 / 64 / 40
    # an edge is halved four times, and the logit is cut at what half of the last part may make of it
    assert np.abs(np.linalg.norm(mesh.vertices - 0.5, axis=1) - RADIUS).max() < cell / 2**4
    assert report(mesh).watertight


def test_a_field_without_inside_has_no_surface():
    assert not len(occupancy_mesh(Ball(0.0), 32).faces)
    assert float(OccupancyDistance(Ball(0.0), 32)(torch.rand(5, 3)).min()) > 3**0.5


def test_labels_are_those_of_the_mesh_and_batches_are_of_the_step(ball):
    signal = signals.read(ball, "occupancy")
    method = load_signal_method("occupancy", "sdf", SMALL)
    task = OccupancyTask(signal, SignalRunConfig(kind="occupancy", method=method), n_points=3000)
    x, inside = task._batch(5)
    assert x.shape == (2048, 3) and inside.shape == (2048, 1)
    assert torch.equal(inside[:, 0].bool(), signal.inside(x))
    assert torch.equal(task._batch(5)[0], x) and not torch.equal(task._batch(6)[0], x)
    from_surface = ((task._positions - 0.5).norm(dim=1) - 0.45).abs()
    near, around, anywhere = from_surface.split(1000)
    assert float(near.mean()) < 0.01 < float(around.mean()) < 0.06 < float(anywhere.mean())


def test_an_occupancy_is_learned_measured_drawn_and_exported(ball, few_places, tmp_path, capsys):
    trimesh = pytest.importorskip("trimesh")
    words = ("train", str(ball), "--method", "occupancy", "--output-dir", str(tmp_path), "--timestamp", "t")
    assert main([*words, "--max-num-iterations", "300", "--set", *SMALL]) == 0
    folder = tmp_path / "ball/occupancy/t"
    assert "occupancy: ball.obj" in capsys.readouterr().out
    assert main(["eval", str(folder)]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["iou"] > 0.97 and result["chamfer_percent"] < 0.5 and result["n_params"] < 1e5
    picture = tmp_path / "ball.png"
    assert main(["render", str(folder), "--output", str(picture), "--orbit", "1", "--resolution", "64", "48"]) == 0
    seen = np.asarray(Image.open(picture).convert("L"))
    assert seen[0, 0] == 255 and 60 < seen[24, 32] < 255
    assert 0.25 < (seen < 250).mean() < 0.6  # a disc of nine tenths of 1 / 1.25 of the height
    assert main(["export", "mesh", str(folder), "--output", str(tmp_path / "b.ply"), "--resolution", "48"]) == 0
    mesh = trimesh.load(tmp_path / "b.ply")
    assert mesh.is_watertight and mesh.bounds == pytest.approx(np.array([[-1] * 3, [1] * 3]), abs=0.1)
    run = neurfield.load(folder)
    assert run.config.kind == "occupancy" and type(run.distance()) is OccupancyDistance


def test_a_method_is_for_data_that_are_read_alike(ball, tmp_path, capsys):
    path = write_picture(tmp_path / "p.png")
    for data, method in ((path, "occupancy"), (ball, "volume")):
        assert main(["train", str(data), "--method", method]) == 2
        assert f"the method {method!r} is for {method}" in capsys.readouterr().err
    run = neurfield.train_signal(path, max_num_iterations=1, overrides=("training.n_samples=256",))
    with pytest.raises(UserError, match="a field of the kind image has no surface"):
        run.distance()


def test_the_spectrum_of_a_solid_is_that_of_its_inside(ball):
    sampled = KINDS["occupancy"].sampled(signals.read(ball, "occupancy"))
    assert set(sampled.unique().tolist()) == {0.0, 1.0}
    assert float(sampled.mean()) == pytest.approx(4 / 3 * np.pi * 0.45**3, rel=0.03)  # facets lie within


def test_a_run_is_continued_as_what_it_is(tmp_path, capsys):
    path = write_obj(tmp_path / "ball.obj", *icosphere(2))
    words = ["train", str(path), "--output-dir", str(tmp_path / "out"), "--timestamp", "t", "--eval-split", "none"]
    small = ["field.encoding.log2_hashmap_size=10", "training.n_samples=512"]
    assert main([*words, "--method", "occupancy", "--max-num-iterations", "2", "--set", *small]) == 0
    capsys.readouterr()
    assert main([*words, "--resume", "--max-num-iterations", "4"]) == 0
    assert capsys.readouterr().out.startswith("occupancy: ball.obj")


def test_the_error_of_a_missing_part_is_its_distance(ball):
    """A field without the ball's upper half: its surface is as far as the disc in the middle, or the lower half."""
    signal = signals.read(ball, "occupancy")

    def lower_half(x: Tensor) -> Tensor:
        from_middle = x - 0.5
        return 40 * torch.minimum(0.45 - from_middle.norm(dim=1), -from_middle[:, 2])[:, None]

    got = KINDS["occupancy"].evaluate(lower_half, signal, lambda part: None)
    # height r |cos| of the points of the upper half, uniform in 0 ... 0.45; 0 of the others: facets of the mesh and the
    # cells of the surface are below 1e-3
    assert got["mean_error"] * signal.info.scale == pytest.approx(0.45 / 4, abs=1.5e-3)
    nothing = KINDS["occupancy"].evaluate(Ball(0.0), signal, lambda part: None)
    assert nothing["mean_error"] is None and nothing["chamfer"] is None
