# SPDX-License-Identifier: Apache-2.0
"""Pages that draw a field: what a browser shows is what the renderer gives; one looks around; nothing is fetched."""

import dataclasses
import io
import math
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from neurfield.cameras.cameras import Cameras
from neurfield.data.scene import Normalization, box
from neurfield.errors import UserError
from neurfield.export import web_shader
from neurfield.export.morton import raster
from neurfield.export.web_page import export_web
from neurfield.fields.conditions import Conditions
from neurfield.fields.dynamic import DynamicConfig
from neurfield.fields.nerf import NerfConfig
from neurfield.fields.radiance_field import FieldConfig
from neurfield.fields.surface import SurfaceConfig
from neurfield.ops.fused_mlp import _TORCH_ACTIVATIONS
from neurfield.rendering.renderer import Renderer
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import OccupancyGrid
from neurfield.training.method import load_method
from neurfield.training.view_set import ViewSet
from tests.scenes import ball_scene

WIDTH, HEIGHT = 28, 22
GRID = {"otype": "HashGrid", "n_levels": 6, "n_features_per_level": 2, "log2_hashmap_size": 10, "base_resolution": 4}
MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "n_neurons": 32, "n_hidden_layers": 1}
SMALL = {**MLP, "n_neurons": 16}


def random_run(
    grid: dict[str, Any] = GRID,
    density: dict[str, Any] = MLP,
    color: dict[str, Any] = MLP,
    degree: int = 4,
    n_geo: int = 16,
    aabb_scale: int = 1,
    background: tuple[float, float, float] = (0.1, 0.6, 0.9),
    surface: dict[str, Any] | None = None,
    motion: dict[str, Any] | None = None,
) -> Any:
    """A run of a field of noise in a third of the blocks of its box, so that every part of it is in the picture."""
    generator = torch.Generator().manual_seed(5)
    torch.manual_seed(5)
    norm = Normalization(0.33, (0.5, 0.5, 0.5), aabb_scale)
    scene = dataclasses.replace(ball_scene(6, 1, 32), normalization=norm)
    kind, more = FieldConfig, {"table_precision": "fp16", "network_precision": "fp32"}
    if surface is not None:
        kind, more = SurfaceConfig, {**more, **surface}
    if motion is not None:
        kind, more = DynamicConfig, {"motion_encoding": {"per_level_scale": 1.6, **motion}, "time_scale": 0.9}
    field = kind(
        encoding={"per_level_scale": 1.6, **grid},
        density_network={**density, "output_activation": "None"},
        direction_encoding={"otype": "SphericalHarmonics", "degree": degree},
        color_network={"output_activation": "Sigmoid", **color},
        n_geo_features=n_geo,
        **more,
    ).build(box(aabb_scale))
    for name, params in field.named_parameters():
        values = torch.randn(params.shape, generator=generator)
        params.data = values.half().float() if "encoding." in name else 0.35 * values  # a page has halves of tables
    occupancy = OccupancyGrid(aabb_scale, resolution=32)
    values = torch.rand(occupancy.n_cascades, 4**3, generator=generator).lt(0.3).float()
    occupancy.density_grid.copy_(values.repeat_interleave(512, dim=1))
    occupancy.renew_bits()
    march = MarchOptions.for_box(aabb_scale, 4.0)
    run = SimpleNamespace(
        views=ViewSet.of_scene(scene), cameras=scene.cameras, field=field, grid=occupancy,
        renderer=Renderer(field, occupancy, norm, march, background, rays_per_pixel=4),
    )  # fmt: skip
    run.on_cpu = lambda: run
    return run


def expected(run: Any, c2w: torch.Tensor | None = None, time: float = 0.0) -> np.ndarray:
    """The renderer's picture, of the first training view or of `c2w`, as large as the browser's window."""
    first = run.cameras[run.views.train[0]]
    extent = first.sizes[0] / first.intrinsics[0, :2]
    focal = min(WIDTH / float(extent[0]), HEIGHT / float(extent[1]))
    camera = Cameras.pinhole(first.c2w if c2w is None else c2w, focal, WIDTH, HEIGHT)
    camera = dataclasses.replace(camera, times=torch.tensor([time]))
    return run.renderer.render(camera, ("rgb",))["rgb"].clamp(0, 1).numpy()


@pytest.fixture
def page(browser: Any) -> Any:
    with browser.new_context(viewport={"width": WIDTH, "height": HEIGHT}, device_scale_factor=1) as context:
        page = context.new_page()
        page.requests = []
        page.on("request", lambda request: page.requests.append(request.url))
        yield page


def state(page: Any) -> Any:
    return page.evaluate("document.documentElement.dataset.state")


def finished(page: Any) -> np.ndarray:
    """The finished picture `[h, w, 3]`, 0 ... 1."""
    deadline = time.monotonic() + 60
    while state(page) not in ("finished", "failed") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert state(page) == "finished", page.inner_text("p")
    page.add_style_tag(content="p { display: none } #clock { opacity: 0 }")
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")) / np.float32(255)


BOUND = 1.2 / 255  # bytes are rounded to 1/510; cells that a ray's rounding puts it beside are few


def assert_shows(page: Any, wanted: np.ndarray) -> None:
    assert wanted.std() > 0.05, "a picture of nothing would prove nothing"
    error = np.abs(finished(page) - wanted)
    assert np.quantile(error, 0.99) < BOUND and error.max() < 0.03, (np.quantile(error, 0.99), error.max())


FIELDS = {
    "plain": {},
    "surface": {"surface": {"scale": 0.3, "beta_start": 0.05, "radius": 0.4}},
    "surface with surroundings": {
        "aabb_scale": 2,
        "surface": {"scale": 0.3, "beta_start": 0.05, "radius": 0.3, "reach": 0.4},
    },
    "unbounded, deep, odd features": {
        "aabb_scale": 8,
        "grid": {**GRID, "n_levels": 2},
        "density": {**SMALL, "n_hidden_layers": 2},
        "color": {**SMALL, "n_hidden_layers": 3},
        "n_geo": 7,
    },
    "one feature, tiled, other activations": {
        "grid": {**GRID, "otype": "TiledGrid", "n_features_per_level": 1, "n_levels": 7},
        "density": {**MLP, "activation": "Squareplus"},
        "color": {**MLP, "activation": "LeakyReLU", "output_activation": "Softplus"},
    },
    "four features, smooth, many harmonics": {
        "grid": {**GRID, "n_features_per_level": 4, "interpolation": "Smoothstep"},
        "degree": 8,
        "n_geo": 15,
    },
    "eight features, dense, wide": {
        "grid": {**GRID, "otype": "DenseGrid", "n_features_per_level": 8, "n_levels": 3},
        "color": {**MLP, "n_neurons": 128},
    },
    "nearest, one harmonic": {
        "grid": {**GRID, "interpolation": "Nearest"},
        "density": SMALL,
        "color": SMALL,
        "degree": 1,
    },
}


@pytest.mark.parametrize("kind", FIELDS)
def test_the_browser_shows_what_the_renderer_gives(kind: str, page: Any, tmp_path: Path) -> None:
    run = random_run(**FIELDS[kind])
    page.goto(export_web(run, tmp_path / "noise.html").as_uri())
    assert_shows(page, expected(run))
    assert page.requests == [page.url.split("#")[0]]


MOVING = {
    "hashed": {"motion": {**GRID, "n_levels": 4}},
    "four features beside two, dense, smooth": {
        "motion": {
            **GRID,
            "otype": "DenseGrid",
            "n_levels": 3,
            "n_features_per_level": 4,
            "interpolation": "Smoothstep",
        },
        "n_geo": 7,
    },
    "one feature beside eight, tiled, nearest, unbounded": {
        "aabb_scale": 4,
        "grid": {**GRID, "n_features_per_level": 8, "n_levels": 2},
        "motion": {**GRID, "otype": "TiledGrid", "n_features_per_level": 1, "interpolation": "Nearest"},
    },
}


@pytest.mark.parametrize("kind", MOVING)
def test_a_field_that_moves_is_shown_at_the_time_of_the_link(kind: str, page: Any, tmp_path: Path) -> None:
    run = random_run(**MOVING[kind])
    page.emulate_media(reduced_motion="reduce")
    page.goto(export_web(run, tmp_path / "noise.html").as_uri())
    first, early, late = (expected(run, time=at) for at in (0.0, 0.31, 0.83))
    assert min(np.abs(late - early).mean(), np.abs(early - first).mean()) > 2 * BOUND
    assert_shows(page, first)
    for at, wanted in ((0.83, late), (0.31, early)):
        page.goto(f"{page.url.rpartition(',')[0]},{at}")
        time.sleep(0.3)
        assert_shows(page, wanted)


def test_a_field_that_moves_plays_until_one_stops_it(page: Any, tmp_path: Path) -> None:
    run = random_run(motion=GRID, density=SMALL, color=SMALL, degree=1)
    page.set_viewport_size({"width": 240, "height": 60})  # there is room for a slider
    page.goto(export_web(run, tmp_path / "noise.html").as_uri())

    def until(is_so: Callable[[], bool], seconds: float = 60) -> bool:
        deadline = time.monotonic() + seconds
        while not (found := is_so()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return found

    def plays(seconds: float = 60) -> bool:  # is seen to within so many
        before = page.input_value("input")
        return until(lambda: page.input_value("input") != before, seconds)

    def link() -> list[float]:
        return [float(v) for v in page.evaluate("location.hash")[1:].split(",")]

    assert plays() and until(lambda: len(link()) == 13) and state(page) == "drawing"
    view = link()
    page.keyboard.press("Space")
    assert until(lambda: len(link()) == 14) and not plays(1)
    assert page.inner_text("button") == "play" and link()[:-1] == view
    assert abs(link()[-1] - float(page.input_value("input"))) < 0.003  # the slider's steps are 0.005
    page.keyboard.press("Control+Space")
    assert page.inner_text("button") == "play", "which belongs to the browser and the system"
    page.focus("button")
    page.keyboard.press("Space")
    assert plays() and until(lambda: link() == view)
    page.click("button")
    assert until(lambda: len(link()) == 14) and not plays(1)
    page.fill("input", "0")  # wherever it was stopped: a click on the slider's thumb moves nothing
    page.click("input")
    assert until(lambda: abs(link()[-1] - 0.5) < 0.05)
    page.fill("input", "0.7")
    page.keyboard.press("ArrowRight")
    assert until(lambda: link() == [*view, 0.705])
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    time.sleep(0.3)
    assert_shows(page, expected(run, time=0.705))


def test_fog_keeps_its_light(page: Any, tmp_path: Path) -> None:
    """Samples of a weight that no colour is evaluated for on its own, 256 of them along the cube."""
    run = random_run(grid={**GRID, "n_levels": 1}, density=SMALL, color=SMALL, background=(0.1, 0.1, 0.1))
    field, sigma = run.field, 0.014
    field.encoding.params.data.fill_(1)
    matrices = (net.config.matrices(net.params.data) for net in (field.density_network, field.color_network))
    (into, _), (density, _) = next(matrices)
    into.fill_(1 / into.shape[1])  # features and padding are ones, and so is the hidden layer
    density.zero_()[0] = math.log(sigma) / density.shape[1]
    next(matrices)[-1][0].fill_(1.0)  # white
    run.grid.load_bits(torch.full_like(run.grid.bitfield, 255))
    step = math.sqrt(3) / 1024 * run.renderer.options.step_scale
    assert sigma * step < 1e-4
    wanted = expected(run)
    assert wanted.max() > 0.1 + 2 / 255
    page.goto(export_web(run, tmp_path / "fog.html").as_uri())
    assert np.abs(finished(page) - wanted).max() < 0.6 / 255


@pytest.mark.parametrize("name", sorted(web_shader._ACTIVATIONS))
def test_activations_are_those_of_the_networks(name: str) -> None:
    formula = web_shader._ACTIVATIONS[name]
    z = np.linspace(-4, 4, 101)
    scope = {"z": z, "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "abs": np.abs, "max": np.maximum}
    wanted = _TORCH_ACTIVATIONS[name](torch.from_numpy(z), 1.0, 1.0).numpy()
    assert np.abs(eval(formula, scope) - wanted).max() < 1e-12


def test_one_looks_around_and_the_link_keeps_the_view(page: Any, tmp_path: Path) -> None:
    run = random_run(grid={**GRID, "n_levels": 2}, density=SMALL, color=SMALL, degree=2)
    page.goto(export_web(run, tmp_path / "noise.html").as_uri())
    first = finished(page)
    assert page.query_selector("#clock") is None
    seen = {}
    for name, act in {
        "orbit": lambda: page.mouse.down() or page.mouse.move(20, 15, steps=3) or page.mouse.up(),
        "zoom": lambda: page.mouse.wheel(0, -240),
        "walk": lambda: page.keyboard.press("w", delay=120),
    }.items():
        page.mouse.move(14, 11)
        act()
        time.sleep(0.3)
        seen[name] = finished(page)
        assert np.abs(seen[name] - first).mean() > 0.02, name
        numbers = [float(v) for v in page.url.split("#")[1].split(",")]
        c2w = torch.tensor(numbers[:12]).view(4, 3).T.clone()
        norm = run.views.normalization
        c2w[:, 3] = (c2w[:, 3] - torch.tensor(norm.offset)) / norm.scale
        error = np.abs(seen[name] - expected(run, c2w[None]))
        assert np.quantile(error, 0.99) < 2 / 255, name  # the link has five decimals
    link = page.url
    page.keyboard.press("r")
    time.sleep(0.3)
    assert np.abs(finished(page) - first).max() < 1 / 255
    page.goto("about:blank")
    page.goto(link.replace(",", "%2C"))  # as mail programs write it
    assert np.abs(finished(page) - seen["walk"]).max() < 0.03
    for nonsense in ("%zz", ",".join("0" * 12 + "1")):
        page.goto(f"{link.split('#')[0]}#{nonsense}")
        time.sleep(0.3)
        assert np.abs(finished(page) - first).max() < 1 / 255, nonsense


def test_a_coarse_picture_has_no_seam(page: Any, tmp_path: Path) -> None:
    run = random_run(density=SMALL, color=SMALL, background=(1.0, 1.0, 1.0))
    run.grid.load_bits(torch.zeros_like(run.grid.bitfield))  # nothing is there: all is white
    page.set_viewport_size({"width": 300, "height": 200})
    page.add_init_script("""
        const gl = WebGL2RenderingContext.prototype, blit = gl.blitFramebuffer;
        gl.blitFramebuffer = function (...sizes) {
            blit.apply(this, sizes);
            if (sizes[2] >= sizes[6] || this.getParameter(this.DRAW_FRAMEBUFFER_BINDING)) return;
            const pixels = new Uint8Array(4 * sizes[6] * sizes[7]);
            this.bindFramebuffer(this.READ_FRAMEBUFFER, null);
            this.readPixels(0, 0, sizes[6], sizes[7], this.RGBA, this.UNSIGNED_BYTE, pixels);
            window.darkest = pixels.reduce((a, b) => Math.min(a, b));
        };""")
    page.goto(export_web(run, tmp_path / "nothing.html").as_uri())
    finished(page)
    assert page.evaluate("window.darkest") == 255


def test_a_lost_graphics_unit_is_said_and_stays_said(page: Any, tmp_path: Path) -> None:
    page.goto(export_web(random_run(density=SMALL, color=SMALL), tmp_path / "noise.html").as_uri())
    finished(page)
    page.evaluate(
        "document.querySelector('canvas').getContext('webgl2').getExtension('WEBGL_lose_context').loseContext()"
    )
    page.mouse.wheel(0, -240)
    page.keyboard.press("w", delay=120)
    assert state(page) == "failed" and "load the page again" in page.text_content("p")
    assert page.evaluate("getComputedStyle(document.querySelector('p')).opacity") == "1"


def test_words_cannot_end_the_script(tmp_path: Path) -> None:
    text = export_web(random_run(), tmp_path / "a<b>&$x.html").read_text()
    assert "<title>a&lt;b&gt;&amp;$x</title>" in text and text.count("</script>") == 6


def test_the_occupancy_lies_in_rows_of_x() -> None:
    grid = OccupancyGrid(2, resolution=16)
    grid.density_grid.zero_()
    cell = (3, 10, 7)
    code = sum(((value >> bit) & 1) << (3 * bit + axis) for axis, value in enumerate(cell) for bit in range(4))
    grid.density_grid[1, code] = 1.0
    grid.renew_bits()
    rows = raster(grid.bitfield[1].numpy())  # z, y, x
    assert np.argwhere(rows).tolist() == [[7 // 2, 10 // 2, 3 // 2]]
    assert rows.max() == 1 << (3 % 2 + 2 * (10 % 2) + 4 * (7 % 2))


def test_what_cannot_be_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = random_run()
    with pytest.raises(UserError, match=r"written as \.html"):
        export_web(run, tmp_path / "page.pdf")
    (tmp_path / "there.html").write_text("")
    with pytest.raises(UserError, match="exists"):
        export_web(run, tmp_path / "there.html")
    with pytest.raises(UserError, match="activation Sine"):
        export_web(random_run(density={**MLP, "activation": "Sine"}), tmp_path / "a.html")
    with pytest.raises(UserError, match=r"fill 1[0-9]+ blocks"):
        export_web(random_run(color={**MLP, "n_neurons": 128, "n_hidden_layers": 4}), tmp_path / "a.html")
    monkeypatch.setattr(web_shader, "_MAX_VALUES", 1000)
    with pytest.raises(UserError, match=r"table of this field has \d+ values.*log2_hashmap_size=21"):
        export_web(run, tmp_path / "a.html")
    for field, reason in (
        (NerfConfig().build(box(1)), "another kind"),
        (DynamicConfig().build(box(1)).at(Conditions()), "held at one time"),
        (DynamicConfig(motion_encoding={"otype": "Frequency"}).build(box(1)), "the motion encoding is Frequency"),
        (load_method("ngp-dynamic-cam").field.build(box(1)), "the density network is modulated"),
    ):
        run.field = field
        with pytest.raises(UserError, match=f"here .*{reason}.*neurfield render"):
            export_web(run, tmp_path / "a.html")
    run = random_run()
    run.field.direction_encoding = torch.nn.Identity()
    with pytest.raises(UserError, match=r"here the direction encoding is Identity.*neurfield render"):
        export_web(run, tmp_path / "a.html")
    assert [path.name for path in tmp_path.iterdir()] == ["there.html"]
