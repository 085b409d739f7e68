# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield.cameras import paths
from neurfield.cameras.cameras import Cameras
from neurfield.rendering.outputs import depth_map, depth_range, picture
from neurfield.rendering.writers import DEPTH_WRITERS, FolderWriter
from tests.cases import uniform
from tests.png import zlib_effort

HEIGHT, WIDTH = 6, 8


def camera() -> Cameras:
    return Cameras.pinhole(paths.look_at(torch.tensor([[3.0, 1.0, 2.0]]), torch.zeros(3)), 7.0, WIDTH, HEIGHT)


def values() -> dict[str, torch.Tensor]:
    normal = torch.nn.functional.normalize(uniform(HEIGHT, WIDTH, 3, low=-1), dim=2)
    depth = uniform(HEIGHT, WIDTH, low=0.5, high=4)
    depth[0, 0] = 0
    return {"rgb": uniform(HEIGHT, WIDTH, 3), "depth": depth, "normal": normal, "accumulation": uniform(HEIGHT, WIDTH)}


def test_z_depth_of_a_plane_across_the_axis_is_constant() -> None:
    """Rays to a plane at z-depth 2 are longer towards the corners, by the pinhole's own geometry."""
    row, column = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    length = 2 * torch.sqrt(((column - WIDTH / 2) / 7) ** 2 + ((row - HEIGHT / 2) / 7) ** 2 + 1)
    acc = torch.ones(HEIGHT, WIDTH)
    acc[2, 3] = 0.4
    result = {"depth": length, "accumulation": acc}
    z = depth_map(result, camera(), "z")
    assert z[2, 3] == 0
    z[2, 3] = 2
    torch.testing.assert_close(z, torch.full((HEIGHT, WIDTH), 2.0), atol=1e-5, rtol=0)
    assert torch.equal(depth_map(result, camera(), "ray"), torch.where(acc >= 0.5, length, 0.0))


def test_pictures_of_outputs_lie_where_these_do() -> None:
    """What would be made on the default device cannot meet them."""
    view, result = camera(), values()
    here = depth_map(result, view, "z"), picture("depth", result["depth"], 0.5, 4), picture("samples", result["depth"])
    with torch.device("meta"):
        there = (
            depth_map(result, view, "z"),
            picture("depth", result["depth"], 0.5, 4),
            picture("samples", result["depth"]),
        )
    assert all(torch.equal(a, b) for a, b in zip(there, here, strict=True))


def test_depth_range_ignores_what_is_empty_and_rare() -> None:
    depth = torch.cat([torch.zeros(50), torch.linspace(1, 2, 1000), torch.tensor([90.0])])
    near, far = depth_range(depth)
    assert 1 < near < 1.02 and 1.98 < far < 2
    assert depth_range(torch.zeros(4)) == (0.0, 1.0)


def test_pictures_span_black_to_white() -> None:
    assert picture("rgb", torch.tensor([[[0.0, 0.5, 1.2]]])).tolist() == [[[0, 128, 255]]]
    assert picture("normal", torch.tensor([[[-1.0, 0.0, 1.0]]])).tolist() == [[[0, 128, 255]]]
    assert picture("accumulation", torch.tensor([[1.0]])).tolist() == [[[255, 255, 255]]]
    near, middle, far, empty = picture("depth", torch.tensor([[1.0, 2.0, 3.0, 0.0]]), 1, 3)[0].int().sum(dim=1).tolist()
    assert near > middle > far and empty == 3 * 255


def test_pngs_are_not_packed_longer_than_is_worth_it(tmp_path: Path) -> None:
    view = values()
    writer = FolderWriter(tmp_path, list(view), "png", "z")
    writer.add("a", view, camera())
    files = list(tmp_path.rglob("*.png"))
    assert len(files) == len(view) and all(zlib_effort(path) == "fast" for path in files)


@pytest.mark.parametrize("depth_format", DEPTH_WRITERS)
def test_folder_holds_what_frames_json_says(depth_format: str, tmp_path: Path) -> None:
    if depth_format == "exr":
        pytest.importorskip("OpenEXR")
    view = values()
    writer = FolderWriter(tmp_path, list(view), depth_format, "z")
    writer.add("r_7", view, camera())
    writer.close()
    content = json.loads((tmp_path / "frames.json").read_text())
    (frame,) = content["frames"]
    assert frame["files"]["rgb"] == "rgb/r_7.png" and (frame["w"], frame["h"]) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(np.array(frame["transform_matrix"])[:3], camera().c2w[0].numpy(), atol=1e-6)
    rgb = np.asarray(Image.open(tmp_path / frame["files"]["rgb"]))
    np.testing.assert_allclose(rgb / 255, view["rgb"].numpy(), atol=0.5001 / 255)
    normal = np.asarray(Image.open(tmp_path / frame["files"]["normal"])) / 127.5 - 1
    np.testing.assert_allclose(normal, view["normal"].numpy(), atol=0.5001 / 127.5)
    acc = np.asarray(Image.open(tmp_path / frame["files"]["accumulation"]))
    np.testing.assert_allclose(acc / 255, view["accumulation"].numpy(), atol=0.5001 / 255)
    assert content["depth"]["kind"].startswith("z-depth") and content["depth"]["format"] == depth_format

    path = tmp_path / frame["files"]["depth"]
    if depth_format == "npy":
        np.testing.assert_array_equal(np.load(path), view["depth"].numpy())
    elif depth_format == "png":
        depth = np.asarray(Image.open(path))
        assert depth.dtype == np.uint16 and content["depth"]["unit"].startswith("millimetre")
        np.testing.assert_allclose(depth / 1000, view["depth"].numpy(), atol=0.5001e-3)
    else:
        import OpenEXR

        with OpenEXR.File(str(path)) as file:
            np.testing.assert_array_equal(file.channels()["Z"].pixels, view["depth"].numpy())
            assert file.header()["depthKind"] == "z"


def test_millimetres_saturate_instead_of_wrapping(tmp_path: Path) -> None:
    DEPTH_WRITERS["png"](tmp_path / "d.png", np.float32([[65.5, 70.0, 1e6]]), "z")
    assert np.asarray(Image.open(tmp_path / "d.png")).tolist() == [[65500, 65535, 65535]]
