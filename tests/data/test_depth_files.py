# SPDX-License-Identifier: Apache-2.0
"""Depth maps beside photos: files and units, what is not known, what is no map, and data sets that have some."""

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from neurfield.data import depth_files, load_scene, plan_memory, read_manifest
from neurfield.data.report import describe
from neurfield.errors import UserError
from neurfield.rendering.writers import DEPTH_WRITERS, write_exr
from tests.data.small import HEIGHT, WIDTH, synthetic, transforms, write_json

DEPTHS = np.arange(WIDTH * HEIGHT, dtype=np.float32).reshape(HEIGHT, WIDTH) * 0.125


def read(path: Path, width: int = WIDTH, height: int = HEIGHT, unit: float = 1.0) -> np.ndarray:
    return depth_files.read(path, width, height, unit, 64.0)


@pytest.mark.parametrize("kind", DEPTH_WRITERS)
def test_what_we_write_is_read(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    DEPTH_WRITERS[kind](path, DEPTHS, "z")
    found = read(path, unit=1e-3 if kind == "png" else 1.0)
    assert found.dtype == np.float32 and np.array_equal(found, DEPTHS)


@pytest.mark.parametrize("name", ["V", "Y", "R"])
def test_exr_files_of_others(tmp_path: Path, name: str) -> None:
    """Blender calls the channel V; pictures of three alike have it as R. What is infinitely far, or 1e10 as Blender has
    it, is not known."""
    values = DEPTHS.copy()
    values[0, :4] = np.inf, np.nan, -1, 1e10
    write_exr(tmp_path / "a.exr", {name: values, "B": DEPTHS * 0, "G": DEPTHS * 0})
    expected = values.copy()
    expected[0, :4] = 0
    assert np.array_equal(read(tmp_path / "a.exr"), expected)


def test_an_exr_without_its_empty_margin(tmp_path: Path) -> None:
    """Programs that compose pictures store the part in which something is; what is asked for is the whole."""
    windows = {
        "dataWindow": (np.array([2, 1], np.int32), np.array([5, 3], np.int32)),
        "displayWindow": (np.array([0, 0], np.int32), np.array([WIDTH - 1, HEIGHT - 1], np.int32)),
    }
    write_exr(tmp_path / "a.exr", {"Z": DEPTHS[1:4, 2:6]}, windows)
    expected = np.zeros_like(DEPTHS)
    expected[1:4, 2:6] = DEPTHS[1:4, 2:6]
    assert np.array_equal(read(tmp_path / "a.exr"), expected)


def test_floats_of_a_tiff_have_gaps(tmp_path: Path) -> None:
    values = DEPTHS.copy()
    values[0, :3] = np.inf, np.nan, -1
    Image.fromarray(values).save(tmp_path / "a.tif")
    values[0, :3] = 0
    assert np.array_equal(read(tmp_path / "a.tif"), values)


@pytest.mark.parametrize("name", ["a.png", "a.npy"])
def test_the_largest_of_16_bits_is_no_distance(tmp_path: Path, name: str) -> None:
    values = np.full((HEIGHT, WIDTH), 65534, np.uint16)
    values[0, 0] = 65535
    np.save(tmp_path / name, values) if name == "a.npy" else Image.fromarray(values).save(tmp_path / name)
    expected = values.astype(np.float32)
    expected[0, 0] = 0
    assert np.array_equal(read(tmp_path / name), expected)


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 1), (1, HEIGHT, WIDTH)])
def test_arrays(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "a.npy", DEPTHS.reshape(shape).astype(np.float16))
    assert np.array_equal(read(tmp_path / "a.npy", unit=2.0), 2 * DEPTHS)


def test_a_map_of_another_size_gives_the_nearest_number(tmp_path: Path) -> None:
    """Of the phone's 4 x 3 for a photo of 8 x 6; and the same for one that is smaller by an odd part."""
    np.save(tmp_path / "a.npy", DEPTHS)
    assert np.array_equal(read(tmp_path / "a.npy", 2 * WIDTH, 2 * HEIGHT), DEPTHS.repeat(2, 0).repeat(2, 1))
    third = read(tmp_path / "a.npy", WIDTH // 2 - 1, HEIGHT // 2 - 1)
    assert third.shape == (2, 3) and np.array_equal(third, DEPTHS[np.ix_([1, 4], [1, 4, 6])])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint8)).save(p), "16 bits or floats, got 8 bits"),
        (lambda p: Image.fromarray(np.ones((WIDTH, HEIGHT), np.uint16)).save(p), "6 x 8 pixels, other proportions"),
        (lambda p: p.write_bytes(b"no picture"), "not an image"),
    ],
)
def test_what_is_no_map(tmp_path: Path, write: Callable[[Path], Any], message: str) -> None:
    write(tmp_path / "a.png")
    with pytest.raises(UserError, match=f"a.png: .*{message}"):
        read(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([[{}]], dtype=object), "not a whole .npy file"),
        (np.zeros((4, 3, 2)), r"expected numbers of shape \[height, width\], got float64 \[4, 3, 2\]"),
        (np.zeros((4, 3), dtype="U1"), "whole numbers or floats, got <U1"),
        (np.zeros((4, 0)), r"got float64 \[4, 0\]"),
        (np.broadcast_to(np.uint8(1), (9000, 9000)), "81.0 megapixels"),
    ],
)
def test_what_is_no_array_of_depths(tmp_path: Path, values: np.ndarray, message: str) -> None:
    np.save(tmp_path / "a.npy", values, allow_pickle=True)
    with pytest.raises(UserError, match=message):
        read(tmp_path / "a.npy")
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:100])
    with pytest.raises(UserError, match=r"not a whole \.npy file"):
        read(tmp_path / "a.npy")


def test_archives_and_sizes_that_no_file_has_are_no_arrays(tmp_path: Path) -> None:
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, depth=DEPTHS)
    with pytest.raises(UserError, match=r"a\.npy: not a whole \.npy file"):
        read(tmp_path / "a.npy")
    with (tmp_path / "a.npy").open("wb") as file:
        header = {"descr": "<f4", "fortran_order": False, "shape": (10**10, 10**10)}
        np.lib.format.write_array_header_1_0(file, header)
    with pytest.raises(UserError, match=r"a\.npy: not a whole \.npy file"):
        read(tmp_path / "a.npy")


@pytest.mark.parametrize("kind", [*DEPTH_WRITERS, "tif"])
def test_reading_takes_no_more_than_is_planned(tmp_path: Path, kind: str) -> None:
    path, values = tmp_path / f"a.{kind}", np.ones((600, 800), np.float32)
    DEPTH_WRITERS[kind](path, values, "z") if kind in DEPTH_WRITERS else Image.fromarray(values).save(path)
    read(path, 8, 6)  # what is imported then does not count
    tracemalloc.start()
    try:
        read(path, 800, 600)
        assert tracemalloc.get_traced_memory()[1] <= (depth_files.READING + 4) * 800 * 600 + 100_000
    finally:
        tracemalloc.stop()


def with_depths(root: Path, key: str = "depth_file_path", **shared: Any) -> None:
    """A data set whose third photo has a map, 4000 all over but for one pixel."""
    content = transforms(root, **shared)
    (root / "depth").mkdir()
    values = np.full((HEIGHT, WIDTH), 4000, np.uint16)
    values[1, 2] = 0
    Image.fromarray(values).save(root / "depth/2.png")
    content["frames"][2][key] = "depth/2.png"
    write_json(root / "transforms.json", content)


@pytest.mark.parametrize(
    ("key", "shared", "options", "depth"),
    [
        ("depth_file_path", {}, {}, 4.0),
        ("depth_file_path", {"integer_depth_scale": 1.0}, {}, 4.0),  # instant-ngp's, for its own key
        ("depth_file_path", {"depth_unit_scale_factor": 0.002}, {}, 8.0),
        ("depth_path", {"integer_depth_scale": 0.0005}, {}, 2.0),
        ("depth_path", {}, {}, 4.0),
        ("depth_path", {"integer_depth_scale": 0.0005}, {"depth_unit_scale_factor": 0.01}, 40.0),
    ],
)
def test_units(tmp_path: Path, key: str, shared: dict, options: dict, depth: float) -> None:
    with_depths(tmp_path, key, **shared)
    scene = load_scene(tmp_path, **options)
    assert scene.depths is not None and [view for view, map_ in enumerate(scene.depths) if map_ is not None] == [2]
    found = scene.depths[2]
    assert found is not None and found.shape == (HEIGHT, WIDTH) and found[1, 2] == 0
    assert found.max() == pytest.approx(depth, rel=1e-6) and (found > 0).sum() == WIDTH * HEIGHT - 1


def test_a_file_for_instant_ngp_may_turn_its_maps_off(tmp_path: Path) -> None:
    with_depths(tmp_path, "depth_path", integer_depth_scale=0.001, enable_depth_loading=False)
    assert load_scene(tmp_path).depths is None
    content = json.loads((tmp_path / "transforms.json").read_text())
    write_json(tmp_path / "transforms.json", content | {"enable_depth_loading": True})
    assert load_scene(tmp_path).depths is not None


def test_maps_of_smaller_pictures_and_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_depths(tmp_path)
    manifest = read_manifest(tmp_path, downscale_factor=2)
    assert plan_memory(manifest).depths == 4 * 3 * 4
    monkeypatch.setattr("neurfield.data.load.n_threads", lambda: 1)
    assert plan_memory(read_manifest(tmp_path)).decoding == depth_files.READING * WIDTH * HEIGHT
    depths = load_scene(tmp_path, downscale_factor=2).depths
    assert depths is not None and depths[2] is not None and depths[2].shape == (3, 4)
    assert ("depth maps", "for 1 of 9 views, 0.001 world units per unit") in describe(manifest).rows


def test_a_folder_of_synthetic_pictures_may_have_some(tmp_path: Path) -> None:
    synthetic(tmp_path, {"train": 2, "test": 1})
    assert load_scene(tmp_path).depths is None
    np.save(tmp_path / "d.npy", 1000 * DEPTHS)
    file = tmp_path / "transforms_train.json"
    file.write_text(file.read_text().replace('"file_path"', '"depth_file_path": "d.npy", "file_path"'))
    depths = load_scene(tmp_path).depths
    assert depths is not None and depths[2] is None and depths[1] is not None
    assert np.allclose(depths[1].numpy(), DEPTHS, rtol=1e-6)


def test_maps_that_are_not_there_are_told(tmp_path: Path) -> None:
    with_depths(tmp_path)
    (tmp_path / "depth/2.png").unlink()
    assert any("the depth maps of 1 images are missing (depth/2.png)" in n for n in read_manifest(tmp_path).notes)
    assert load_scene(tmp_path).depths is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth_file_path": 7}, "depth_file_path must be the path of a depth map, got 7"),
        ({"depth_file_path": "../a.png"}, "outside"),
    ],
)
def test_names_that_are_none(tmp_path: Path, change: dict, message: str) -> None:
    content = transforms(tmp_path)
    content["frames"][0] |= change
    write_json(tmp_path / "transforms.json", content)
    with pytest.raises(UserError, match=message):
        read_manifest(tmp_path)


def test_units_that_are_none(tmp_path: Path) -> None:
    with_depths(tmp_path, "depth_path", integer_depth_scale=0)
    with pytest.raises(UserError, match="integer_depth_scale must be a positive number, got 0"):
        read_manifest(tmp_path)
    with pytest.raises(UserError, match="depth_unit_scale_factor must be a positive number, got -1"):
        read_manifest(tmp_path, depth_unit_scale_factor=-1)
