# SPDX-License-Identifier: Apache-2.0
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neurfield.cameras import paths
from neurfield.cameras.cameras import PANORAMA, Cameras
from neurfield.cameras.path_files import NGP_OFFSET, NGP_SCALE, read_camera_path
from neurfield.cameras.poses import up
from neurfield.errors import UserError
from tests.cases import uniform


def ring(n: int = 12, target: tuple[float, float, float] = (0.3, -0.2, 0.5)) -> Cameras:
    """Cameras at distance 3, 30 degrees above a target."""
    angle = torch.arange(n) * 0.5
    offset = torch.stack([angle.cos() * 0.75**0.5, angle.sin() * 0.75**0.5, torch.full((n,), 0.5)], dim=1)
    centre = torch.tensor(target)
    return Cameras.pinhole(paths.look_at(centre + 3 * offset, centre), 500.0, 400, 300)


def rotations(n: int, seed: int = 0) -> torch.Tensor:
    return paths.matrix_from_quaternion(uniform(n, 4, low=-1, seed=seed))


def assert_rigid(c2w: torch.Tensor) -> None:
    rotation = c2w[:, :, :3]
    torch.testing.assert_close(rotation.mT @ rotation, torch.eye(3).expand(len(c2w), 3, 3), atol=1e-5, rtol=0)
    torch.testing.assert_close(torch.linalg.det(rotation), torch.ones(len(c2w)), atol=1e-5, rtol=0)


def test_look_at_points_at_the_target_upright() -> None:
    positions = uniform(50, 3, low=-2, high=2)
    c2w = paths.look_at(positions, torch.tensor([0.1, 0.2, 0.3]))
    assert_rigid(c2w)
    forward = torch.nn.functional.normalize(torch.tensor([0.1, 0.2, 0.3]) - positions, dim=1)
    torch.testing.assert_close(-c2w[:, :, 2], forward)
    assert (c2w[:, 2, 1] >= 0).all() and c2w[:, 2, 0].abs().max() < 1e-6
    assert_rigid(paths.look_at(torch.tensor([[0.0, 0.0, 5.0]]), torch.zeros(3)))


def test_quaternions_return_the_rotation_at_every_angle() -> None:
    half_turns = torch.stack(
        [torch.diag(torch.tensor(d)) for d in ([1.0, -1, -1], [-1.0, 1, -1], [-1.0, -1, 1], [1.0, 1, 1])]
    )
    m = torch.cat([rotations(200), half_turns])
    back = paths.matrix_from_quaternion(paths.quaternion_from_matrix(m))
    torch.testing.assert_close(back, m, atol=2e-6, rtol=0)


def test_orbit_of_parallel_cameras_is_finite() -> None:
    parallel = Cameras.pinhole(torch.eye(4).expand(3, 4, 4), 1.0, 2, 2)
    c2w = paths.orbit(parallel, 5).c2w
    assert torch.isfinite(c2w).all()
    assert_rigid(c2w)


@pytest.mark.parametrize("up", [(0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.6, 0.0, -0.8), (0.0, 0.0, -1.0)])
def test_an_orbit_turns_around_what_is_up_for_the_views(up: tuple[float, float, float]) -> None:
    """A raw sparse model has the axes of its first camera: the orbit of a turned ring is the turned orbit's circle."""
    axis, target = torch.tensor(up), torch.tensor([0.3, -0.2, 0.5])
    level = paths._level_axes(up)
    angle = torch.arange(12) * (torch.pi / 6)
    offset = torch.stack([angle.cos(), angle.sin()], dim=1) @ level * 0.75**0.5 + 0.5 * axis
    turned = Cameras.pinhole(paths.look_at(target + 3 * offset, target, up), 500.0, 400, 300)
    cameras = paths.orbit(turned, 8)
    found = cameras.c2w[:, :, 3] - target
    torch.testing.assert_close(found @ axis, torch.full((8,), 1.5), atol=2e-2, rtol=0)
    torch.testing.assert_close(found.norm(dim=1), torch.full((8,), 3.0), atol=2e-2, rtol=0)
    torch.testing.assert_close(cameras.c2w[:, :, 0] @ axis, torch.zeros(8), atol=2e-2, rtol=0)  # upright
    assert (cameras.c2w[:, :, 1] @ axis > 0).all()
    torch.testing.assert_close(torch.linalg.cross(level[0], level[1]), axis)  # counter-clockwise


def test_up_is_z_for_views_that_stand_upright_in_it() -> None:
    steep = torch.tensor([[1.0, 0.1, 1.2], [1.0, -0.1, 1.1], [0.9, 0.0, 1.3]])  # from one side, 50 degrees down
    for positions in (uniform(20, 3, low=-2, high=2), steep):
        assert up(paths.look_at(positions, torch.zeros(3)).double().numpy()) == (0, 0, 1)
    from_above = torch.eye(3, 4, dtype=torch.float64).repeat(2, 1, 1)
    from_above[1, :, :2] *= -1  # half a turn: no mean up
    assert up(from_above.numpy()) == (0, 0, 1)
    downwards = paths.look_at(uniform(20, 3, low=-2, high=2), torch.zeros(3), (0.0, -1.0, 0.0)).double().numpy()
    assert up(downwards)[1] < -0.9


def test_orbit_keeps_distance_elevation_and_lens() -> None:
    cameras = paths.orbit(ring(), 8)
    target = torch.tensor([0.3, -0.2, 0.5])
    offset = cameras.c2w[:, :, 3] - target
    torch.testing.assert_close(offset.norm(dim=1), torch.full((8,), 3.0), atol=1e-2, rtol=0)
    torch.testing.assert_close(offset[:, 2], torch.full((8,), 1.5), atol=1e-2, rtol=0)
    assert cameras.sizes.tolist() == [[400, 300]] * 8 and float(cameras.intrinsics[0, 0]) == 500
    assert_rigid(cameras.c2w)
    steps = (offset - offset.roll(1, 0)).norm(dim=1)
    torch.testing.assert_close(
        steps, steps[:1].expand(8), atol=1e-4, rtol=0
    )  # closed: the last step is as long as the others
    assert paths.orbit(ring(), 4, elevation=0.0).c2w[:, 2, 3].sub(0.5).abs().max() < 1e-2


def test_orbit_says_what_is_wrong() -> None:
    with pytest.raises(UserError, match="--orbit: expected at least 1 view, got 0"):
        paths.orbit(ring(), 0)
    with pytest.raises(UserError, match=r"--elevation must be within -90 ... 90 degrees, got 91"):
        paths.orbit(ring(), 3, elevation=91)


def test_a_path_between_views_says_what_is_wrong() -> None:
    with pytest.raises(UserError, match="--interpolate: expected at least 1 view, got 0"):
        paths.interpolate(ring(), 0)
    with pytest.raises(UserError, match="--interpolate: expected at least 2 training views to go between, found 1"):
        paths.interpolate(ring(1), 5)


def test_interpolation_passes_through_the_views() -> None:
    cameras = ring(5)
    moved = paths.interpolate(cameras, 17)
    torch.testing.assert_close(moved.c2w[::4], cameras.c2w, atol=1e-5, rtol=0)
    assert_rigid(moved.c2w)


def test_interpolation_turns_no_corner_at_a_view() -> None:
    """Ten times the frames: on a smooth path velocities are a tenth, and their changes from one to the next a
    hundredth; on one with corners a tenth."""
    cameras = ring(5)
    corners = []
    for n in (41, 401):
        velocity = paths.interpolate(cameras, n).c2w.diff(dim=0)
        corners.append(velocity.diff(dim=0).flatten(1).norm(dim=1).max())
    assert corners[1] < corners[0] / 50


@pytest.mark.parametrize("up", [(0.0, 0.0, 1.0), (0.6, 0.0, -0.8)])
def test_panoramas_are_level_and_look_the_way_the_views_do(up: tuple[float, float, float]) -> None:
    axis, east = torch.tensor(up), paths._level_axes(up)[0]
    targets = [east, east + axis, -3 * east - 2 * axis, axis, -axis]
    poses = torch.cat([paths.look_at(torch.ones(1, 3), 1 + target, up) for target in targets])
    cameras = Cameras.pinhole(poses, 50.0, 400, 300)
    found = paths.panoramas(cameras, up)
    assert found.is_panorama.all() and found.sizes.tolist() == [[600, 300]] * 5
    torch.testing.assert_close(found.intrinsics, Cameras.panorama(poses, 600, 300).intrinsics)
    torch.testing.assert_close(found.c2w[:, :, 3], poses[:, :, 3])
    assert_rigid(found.c2w)
    torch.testing.assert_close(found.c2w[:, :, 1], axis.expand(5, 3), atol=1e-5, rtol=0)
    ahead = -found.c2w[:, :, 2]
    torch.testing.assert_close(ahead[:3], torch.tensor([[1.0], [1], [-1]]) * east, atol=1e-5, rtol=0)
    # straight up and down: tilted from the horizon by a little less, they would look the same way
    tilted = paths.level(torch.cat([poses[:3], *(tilt(pose, 1.5, up) for pose in poses[3:])]), up)
    torch.testing.assert_close(-tilted[:, :, 2], ahead, atol=1e-4, rtol=0)


def tilt(pose: torch.Tensor, angle: float, up: tuple[float, float, float]) -> torch.Tensor:
    """A view straight up or down, turned around its right hand to `angle` above or below the horizon it came from."""
    rest = (math.pi / 2 - angle) * (1 if float(pose[:, 2] @ torch.tensor(up)) > 0 else -1)
    turned = pose.clone()
    turned[:, 1] = math.cos(rest) * pose[:, 1] + math.sin(rest) * pose[:, 2]
    turned[:, 2] = math.cos(rest) * pose[:, 2] - math.sin(rest) * pose[:, 1]
    return turned[None]


def test_paths_of_panoramas_are_panoramas() -> None:
    cameras = Cameras.panorama(ring(6).c2w, 200, 100)
    orbit = paths.orbit(cameras, 8, elevation=40)
    assert orbit.is_panorama.all() and orbit.sizes.tolist() == [[200, 100]] * 8
    middle = cameras.c2w[:, :, 3].mean(0)
    distance = (orbit.c2w[:, :, 3] - middle).norm(dim=1)
    expected = (cameras.c2w[:, :, 3] - middle).norm(dim=1).median()
    torch.testing.assert_close(distance, expected.expand(8), atol=1e-4, rtol=0)
    torch.testing.assert_close(orbit.c2w[:, 2, 1], torch.ones(8))  # level, although it looks down on the middle
    assert paths.interpolate(cameras, 9).is_panorama.all()


def test_an_orbit_is_that_of_the_views_that_were_aimed() -> None:
    """Panoramas in the middle, whichever way their middles are, neither narrow nor shift it."""
    photos = ring()
    inside = ring(20).c2w
    inside[:, :, 3] = torch.tensor([0.3, -0.2, 0.5]) + uniform(20, 3, low=-0.1, high=0.1)
    inside = inside[:, :, [2, 1, 0, 3]] * torch.tensor([1.0, 1.0, -1.0, 1.0])
    around = Cameras.panorama(inside, 400, 300)
    mixed = Cameras(*(torch.cat([getattr(c, name) for c in (photos, around)]) for name in vars(photos)))
    orbit, expected = paths.orbit(mixed, 8), paths.orbit(photos, 8)
    torch.testing.assert_close(orbit.c2w, expected.c2w, atol=1e-5, rtol=0)
    assert not orbit.is_panorama.any()


def test_pages_open_with_the_first_view_that_was_aimed() -> None:
    cameras = ring()
    models = cameras.models.clone()
    models[:2] = PANORAMA
    view, ahead = replace(cameras, models=models).opening(5.0)
    assert view == 2 and ahead == pytest.approx(3, abs=1e-4)
    models[:] = PANORAMA
    alone = replace(cameras, models=models)
    middle = cameras.c2w[:, :, 3].mean(0)
    assert alone.opening(5.0) == (0, pytest.approx(float((cameras.c2w[0, :, 3] - middle).norm()), rel=1e-5))
    assert alone[0].opening(5.0) == (0, 0.5)  # at one place


def test_spline_of_equal_keys_stands_still() -> None:
    c2w = ring(1).c2w.expand(4, 3, 4)
    poses, values = paths.spline(c2w, torch.full((4, 1), 50.0), 9)
    torch.testing.assert_close(poses, c2w[:1].expand(9, 3, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(values, torch.full((9, 1), 50.0))


def nerfstudio(c2w: torch.Tensor) -> dict:
    bottom = torch.tensor([[0.0, 0, 0, 1]])
    frames = [{"camera_to_world": torch.cat([pose, bottom]).flatten().tolist(), "fov": 60, "aspect": 2} for pose in c2w]
    return {
        "camera_type": "perspective",
        "render_width": 640,
        "render_height": 320,
        "fps": 24,
        "seconds": 2,
        "camera_path": frames,
    }


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_nerfstudio_path(tmp_path: Path) -> None:
    cameras = ring(3)
    content = nerfstudio(cameras.c2w) | {"crop": {"crop_center": [0, 0, 0]}}
    content["camera_path"][1]["render_time"] = 0.5
    found = read_camera_path(write(tmp_path / "p.json", content))
    torch.testing.assert_close(found.cameras.c2w, cameras.c2w, atol=1e-6, rtol=0)
    focal = 160 / torch.tan(torch.deg2rad(torch.tensor(30.0)))
    torch.testing.assert_close(found.cameras.intrinsics[0], torch.tensor([float(focal), float(focal), 320, 160]))
    assert found.cameras.sizes[0].tolist() == [640, 320] and found.fps == 24
    assert found.cameras.times.tolist() == [0, 0.5, 0]
    assert found.notes == ["p.json: the crop is ignored"]


def test_nerfstudio_path_of_panoramas(tmp_path: Path) -> None:
    content = nerfstudio(ring(3).c2w) | {"camera_type": "equirectangular"}
    del content["camera_path"][1]["fov"]
    cameras = read_camera_path(write(tmp_path / "p.json", content)).cameras
    assert cameras.is_panorama.all() and cameras.sizes[0].tolist() == [640, 320]
    torch.testing.assert_close(cameras.intrinsics, Cameras.panorama(cameras.c2w, 640, 320).intrinsics)


def test_instant_ngp_path_returns_to_the_world(tmp_path: Path) -> None:
    """Forward, as instant-ngp reads a pose: y and z of the camera turned, scaled, shifted, rows in the order y z x."""
    c2w = ring(1).c2w[0]
    ngp = torch.cat(
        [c2w[:, :3] * torch.tensor([1.0, -1, -1]), c2w[:, 3:] * NGP_SCALE + torch.tensor(NGP_OFFSET)[:, None]], dim=1
    )
    ngp = ngp[[1, 2, 0]]
    w, x, y, z = paths.quaternion_from_matrix(ngp[None, :, :3])[0].tolist()
    key = {"R": [x, y, z, w], "T": ngp[:, 3].tolist(), "fov": 50.0, "aperture_size": 0.0, "scale": 1.0, "slice": 0.0}
    found = read_camera_path(write(tmp_path / "base_cam.json", {"path": [key] * 3, "time": 0.0}), size=(320, 200))
    assert len(found.cameras) == 60 and found.fps is None
    torch.testing.assert_close(found.cameras.c2w[7], c2w, atol=1e-5, rtol=0)
    focal = 100 / torch.tan(torch.deg2rad(torch.tensor(25.0)))
    torch.testing.assert_close(found.cameras.intrinsics[0, 0], focal)


@pytest.mark.parametrize("above", [0.3, 0.8, 1.2, 1.5])  # radians
@pytest.mark.parametrize("true", [(0.0, -1.0, 0.0), (0.0, 1.0, 0.0), (0.6, 0.0, -0.8), (0.0, 0.0, 1.0)])
def test_up_does_not_lean_with_views_that_look_down_from_one_side(true: tuple[float, float, float], above: float):
    axis = torch.tensor(true)
    right, forward = paths._level_axes(true)
    angles = torch.linspace(0, 1.2, 9)[:, None]
    places = math.cos(above) * (angles.cos() * right + angles.sin() * forward) + math.sin(above) * axis
    found = up(paths.look_at(4 * places, torch.zeros(3), true).double().numpy())
    assert math.degrees(math.acos(min(float(torch.tensor(found) @ axis), 1.0))) < 0.1
    alone = up(paths.look_at(4 * places[:1], torch.zeros(3), true).double().numpy())
    assert all(math.isfinite(v) for v in alone)


def bad_paths() -> list[tuple[object, str]]:
    pose = nerfstudio(ring(1).c2w)
    skewed = nerfstudio(ring(1).c2w)
    skewed["camera_path"][0]["camera_to_world"][0] += 0.5
    frame, huge = pose["camera_path"][0], 10**400  # JSON allows it, float64 does not
    return [
        ([], "expected a JSON object, found list"),
        (
            {"frames": []},
            r"expected a camera path with 'camera_path' \(nerfstudio\) or 'path' \(instant-ngp\), found \['frames'\]",
        ),
        (pose | {"camera_path": []}, "expected 1 ... 100000 frames in 'camera_path', found 0"),
        (
            pose | {"camera_path": [{"camera_to_world": [1, 2], "fov": 50}]},
            r"frame 0: expected 16 finite numbers .* found \[1, 2\]",
        ),
        (pose | {"camera_path": [3]}, "frame 0: expected an object, found int"),
        (pose | {"render_width": -4}, r"expected a number 1 ... 16384 for 'render_width', found -4"),
        (pose | {"camera_type": "fisheye"}, r"camera_type 'fisheye' cannot be rendered \(valid: perspective, equirec"),
        (skewed, "frame 0: camera_to_world: the pose is not rigid"),
        ({"path": [{"R": [0, 0, 0, 0], "T": [0, 0, 0], "fov": 50}]}, "frame 0: 'R' is not a rotation"),
        ({"path": [{"R": [0, 0, 0, 1], "T": [0, 0, 0]}]}, "expected a number 0.1 ... 179 for 'fov', found None"),
        (
            {"path": [{"R": [0, 0, 0, 1], "T": [0, float("nan"), 0], "fov": 50}]},
            "frame 0: expected 3 finite numbers for 'T'",
        ),
        ({"path": [{"R": [0, 0, 0, huge], "T": [0, 0, 0], "fov": 50}]}, "frame 0: expected 4 finite numbers for 'R'"),
        (pose | {"camera_path": [frame | {"fov": huge}]}, "expected a number 0.1 ... 179 for 'fov', found 1000"),
        (pose | {"camera_path": [frame | {"render_time": "x"}]}, "frame 0: expected .* 'render_time', found 'x'"),
        (pose | {"camera_path": [frame | {"render_time": huge}]}, "frame 0: expected .* 'render_time', found 1000"),
    ]


@pytest.mark.parametrize("case", range(len(bad_paths())))
def test_bad_path_is_one_clear_line(case: int, tmp_path: Path) -> None:
    content, message = bad_paths()[case]
    with pytest.raises(UserError, match=message) as error:
        read_camera_path(write(tmp_path / "p.json", content))
    assert "\n" not in str(error.value)


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no camera path"):
        read_camera_path(str(tmp_path / "none.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(UserError, match="not a JSON file"):
        read_camera_path(tmp_path / "broken.json")


def test_panoramas_at_one_place_are_not_gone_around() -> None:
    c2w = torch.eye(3, 4).repeat(3, 1, 1)
    with pytest.raises(UserError, match="the panoramas stand at one place"):
        paths.orbit(Cameras.panorama(c2w, 64, 32), 8)
