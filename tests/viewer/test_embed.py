# SPDX-License-Identifier: Apache-2.0
"""Fields of no run in the viewer, and the page in a notebook that is really executed."""

import copy
import re
from pathlib import Path

import pytest
import torch

from neurfield.errors import UserError
from neurfield.fields.signal_field import SignalField
from neurfield.viewer import open_viewer, shown_run
from neurfield.viewer.bare import shown_field
from neurfield.viewer.look import Look

GRID = {"otype": "HashGrid", "n_levels": 4, "log2_hashmap_size": 10, "base_resolution": 8}
MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 32, "n_hidden_layers": 1}


def no_step(part: float) -> None:
    pass


def test_a_radiance_field_alone_looks_like_that_of_its_run(run):
    alone, norm = shown_field(run.field), run.views.normalization
    camera = run.cameras[0]
    unit = camera.transformed(norm.scale, torch.tensor(norm.offset))
    a = alone.stage.paint(unit, Look(), no_step, True).image
    b = shown_run(run).stage.paint(camera, Look(), no_step, True).image
    # mist that no view has cleared is outside of the run's grid, and not of the bare field's
    assert (a - b).abs().mean() < 0.06 and float((a - b).abs()[28:36, 28:36].max()) < 0.1
    assert alone.exports is None and alone.views is None and "error" not in alone.stage.modes
    with pytest.raises(UserError, match="aabb_scale must be a power of two"):
        shown_field(run.field, aabb_scale=3)
    with pytest.raises(UserError, match="kind 'video' is for fields of signals"):
        shown_field(run.field, "video")


def test_signal_fields_alone(signal_runs):
    image = shown_field(signal_runs["image"].field)
    assert image.stage.controls.is_flat and list(image.stage.modes) == ["colour"]
    shape = shown_field(signal_runs["sdf"].field, "sdf")
    assert shape.frame.scale == pytest.approx(1.0) and shape.frame.offset == pytest.approx((0.0,) * 3)
    camera = shown_run(signal_runs["sdf"])
    assert camera.exports is not None and shape.exports is not None
    volume = shown_field(signal_runs["volume"].field, "volume")
    corners = volume.stage.world_from_box @ torch.tensor([[0.0, 1.0], [0.0, 1.0], [0.0, 1.0], [1.0, 1.0]])
    assert torch.allclose(corners, torch.tensor([[0.0, 1.0]] * 3), atol=1e-6)
    assert shown_field(signal_runs["video"].field, "video").stage.controls.n_frames > 1


def test_a_small_file_in_the_current_folder(signal_runs, tmp_path, monkeypatch):
    (tmp_path / "small.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    run = copy.copy(signal_runs["image"])
    run.path = Path("small.safetensors")
    assert not shown_run(run).curve.points


def test_what_cannot_be_shown_is_said(signal_runs):
    for field, kind, words in (
        (3, None, "expected a run, a field, or a path of a run or data, got int"),
        (signal_runs["sdf"].field, None, "give kind=, one of video, volume, sdf, occupancy"),
        (signal_runs["image"].field, "sdf", "a field of 2 coordinates cannot be shown as sdf"),
        (signal_runs["video"].field, "sdf", "a field of a shape gives one value, this one 3"),
        (SignalField(2, 7, GRID, MLP), None, "1 ... 4 channels, this field 7"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            shown_field(field, kind)
    with pytest.raises(UserError, match="aabb_scale is for radiance fields"):
        shown_field(signal_runs["image"].field, aabb_scale=4)
    with pytest.raises(UserError, match="kind and aabb_scale are for fields alone"):
        open_viewer(signal_runs["image"], kind="video")


def test_three_lines_of_python(signal_runs):
    with open_viewer(signal_runs["sdf"].field, kind="sdf", port=0) as viewer:
        assert viewer.shown.name == "field"
    with open_viewer(signal_runs["image"], port=0) as viewer:
        assert viewer.shown.name == "picture"


def test_a_notebook_shows_the_page_below_its_cell(run):
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: pip install nbclient ipykernel")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: pip install nbclient ipykernel")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed: pip install nbclient ipykernel")
    cells = (
        f"import neurfield.viewer\nviewer = neurfield.viewer.show({str(run.path.parents[1])!r}, port=0, height=321)",
        "import urllib.request\nprint(urllib.request.urlopen(viewer.url).status)\nprint(viewer.url)\nviewer.close()",
    )
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    shown, printed = (cell.outputs for cell in notebook.cells)
    page = shown[0].data["text/html"]
    status, url = printed[0].text.split()
    assert status == "200" and f'src="{url}"' in page and 'height="321"' in page and page.lstrip().startswith("<iframe")
