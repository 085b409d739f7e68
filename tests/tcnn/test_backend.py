# SPDX-License-Identifier: Apache-2.0
"""Blocks with `backend: tcnn`: wired to a stand-in for tinycudann, and to the real one if there."""

import math
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

import neurfield
from neurfield import encodings, networks, tcnn
from neurfield.encodings.tcnn_encoding import TcnnEncoding
from neurfield.errors import UserError
from neurfield.networks.tcnn_network import TcnnNetwork
from neurfield.training.method import load_method
from tests.cases import uniform, unit_vectors
from tests.compare import assert_close, relative_norm
from tests.scenes import ball_scene
from tests.training.test_trainer import SMALL

GRID = {"otype": "HashGrid", "n_levels": 3, "log2_hashmap_size": 10, "base_resolution": 4, "per_level_scale": 1.5}
MLP = {"otype": "FullyFusedMLP", "n_neurons": 32, "n_hidden_layers": 2, "output_activation": "Sigmoid"}
BLOCKS: dict[str, tuple[int, dict[str, Any]]] = {
    "grid": (3, GRID),
    "dense": (2, {**GRID, "otype": "DenseGrid", "interpolation": "Smoothstep"}),
    "harmonics": (3, {"otype": "SphericalHarmonics", "degree": 3}),
    "frequency": (3, {"otype": "Frequency", "n_frequencies": 4}),
    "blob": (3, {"otype": "OneBlob"}),
    "wave": (3, {"otype": "TriangleWave"}),
    "composite": (4, {"otype": "Composite", "nested": [{"otype": "Frequency", "n_dims_to_encode": 1}, GRID]}),
}


def on_tcnn(block: dict[str, Any]) -> dict[str, Any]:
    return {**block, "backend": "tcnn"}


@pytest.fixture
def stand_in(monkeypatch) -> list[str]:
    """Makes a module `tinycudann` out of neurfield.tcnn; the list notes what is built from it."""
    made: list[str] = []

    class Encoding(tcnn.Encoding):
        def __init__(self, *args: Any, **keys: Any) -> None:
            made.append("Encoding")
            super().__init__(*args, **keys)

    class Network(tcnn.Network):
        def __init__(self, *args: Any, **keys: Any) -> None:
            made.append("Network")
            super().__init__(*args, **keys)

    module = types.ModuleType("tinycudann")
    module.Encoding, module.Network = Encoding, Network
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    return made


def value_and_gradients(module: Any, x: Tensor) -> list[Tensor]:
    x = x.detach().requires_grad_()
    y = module(x)
    weights = torch.linspace(0.5, 1.5, y.shape[1], device=x.device)
    return [y.detach(), *torch.autograd.grad((y.float() @ weights).sum(), [x, *module.parameters()], allow_unused=True)]


@pytest.mark.parametrize("name", BLOCKS)
def test_encodings_of_both_backends_exchange_states(name: str, stand_in) -> None:
    n_dims, block = BLOCKS[name]
    ours, theirs = (encodings.create(n_dims, b) for b in (block, on_tcnn(block)))
    assert stand_in == ["Encoding"] and isinstance(theirs, TcnnEncoding)
    assert (theirs.n_input_dims, theirs.n_output_dims, theirs.padding) == (n_dims, ours.n_output_dims, ours.padding)
    x = uniform(17, n_dims)
    tcnn.load_flat_params(theirs.params, ours)
    expected = value_and_gradients(ours, x)
    for actual, wanted in zip(value_and_gradients(theirs, x), expected, strict=False):
        assert wanted is None or torch.equal(actual, wanted)
    with torch.no_grad():
        theirs.params.copy_(2 * tcnn.flat_params(ours))
    if name in ("grid", "dense"):
        ours.load_state_dict(theirs.state_dict())
        assert torch.equal(theirs(x), ours(x)) and not torch.equal(ours(x), expected[0])


@pytest.mark.parametrize(("n_input_dims", "padding"), [(32, 1.0), (21, 1.0), (21, 0.0)])
def test_networks_of_both_backends_exchange_states(n_input_dims: int, padding: float, stand_in) -> None:
    ours, theirs = (networks.create(n_input_dims, 5, b, 3, padding) for b in (MLP, on_tcnn(MLP)))
    assert stand_in == ["Network"] and isinstance(theirs, TcnnNetwork)
    assert list(theirs.state_dict()) == ["params"]
    ours.load_state_dict(theirs.state_dict())
    x = uniform(17, n_input_dims)
    for actual, wanted in zip(value_and_gradients(theirs, x), value_and_gradients(ours, x), strict=True):
        # the padding columns are multiplied or added as a constant
        assert relative_norm(actual, wanted) <= 20 * 2.0**-24


def test_a_field_of_both_backends_trains_and_exchanges_states(stand_in) -> None:
    scene = ball_scene(4)
    blocks = ("encoding", "direction_encoding", "density_network", "color_network")
    overrides = [f"field.{name}.backend=tcnn" for name in blocks]
    run = neurfield.train(scene, "ngp-fast", overrides=(*SMALL, *overrides), max_num_iterations=3)
    assert set(stand_in) == {"Encoding", "Network"} and run.field.fused() is None
    whole = "field.table_precision=fp32"  # the stand-in does not round its tables
    plain = load_method("ngp-fast", (*SMALL, whole)).field.build(run.views.normalization.aabb)
    plain.load_state_dict(run.field.state_dict())
    x, d = uniform(33, 3), unit_vectors(33)
    with torch.no_grad():
        for actual, wanted in zip(run.field(x, d), plain(x, d), strict=True):
            assert torch.equal(actual, wanted)
    assert torch.isfinite(run.render(scene.cameras[0])["rgb"]).all()


def test_without_the_bindings_one_line_says_so(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "tinycudann", None)
    line = r"backend tcnn needs tiny-cuda-nn's torch bindings and a CUDA device \(.+\); pip install .*or leave"
    with pytest.raises(UserError, match=r"^encoding HashGrid: " + line):
        encodings.create(3, on_tcnn(GRID))
    with pytest.raises(UserError, match=r"^network FullyFusedMLP: " + line) as found:
        networks.create(3, 3, on_tcnn(MLP))
    assert "\n" not in str(found.value)
    with pytest.raises(UserError, match=r"field.encoding.*encoding HashGrid: backend tcnn needs"):
        neurfield.train(ball_scene(4), "ngp-fast", overrides=("field.encoding.backend=tcnn",), max_num_iterations=1)


def test_errors(stand_in) -> None:
    for block, message in (
        (
            {"otype": "GaussianFourier"},
            r"GaussianFourier: tiny-cuda-nn has no encoding 'GaussianFourier' \(valid: Identity",
        ),
        ({**GRID, "init_range": 1e-2}, r"encoding HashGrid: backend tcnn takes no init_range"),
        (
            {"otype": "Composite", "nested": [{**GRID, "init_range": 1e-2}]},
            r"encoding Composite: backend tcnn takes no init_range",
        ),
        ({"otype": "Frequency", "n_freq": 3}, r"encoding Frequency: unknown key 'n_freq'"),
        (
            {
                "otype": "Composite",
                "nested": [{"otype": "Identity", "n_dims_to_encode": 1}, {**GRID, "n_dims_to_encode": 2}],
            },
            r"backend tcnn gives 8 outputs and \d+ parameters, expected 7 and \d+; make the outputs",
        ),
    ):
        with pytest.raises(UserError, match=message):
            encodings.create(3, on_tcnn(block))
    for keys, message in (
        ({"bias": True}, "network FullyFusedMLP: backend tcnn takes no bias"),
        ({"activation": "FINER"}, "network FullyFusedMLP: tiny-cuda-nn has no activation 'FINER'"),
    ):
        with pytest.raises(UserError, match=message):
            networks.create(3, 3, on_tcnn({**MLP, **keys}))
    with pytest.raises(UserError, match="network WIRE: tiny-cuda-nn has no such network"):
        networks.create(3, 3, on_tcnn({"otype": "WIRE"}))
    for create in (
        lambda b: encodings.create(3, {**GRID, "backend": b}),
        lambda b: networks.create(3, 3, {**MLP, "backend": b}),
    ):
        with pytest.raises(UserError, match=r"backend 'tccn', did you mean 'tcnn'\? \(valid: neurfield, tcnn\)"):
            create("tccn")
        assert create("neurfield") is not None
    encoding, network = encodings.create(3, on_tcnn(GRID)), networks.create(3, 3, on_tcnn(MLP))
    there = torch.rand(2, 3, device="meta")
    for module in (encoding, network):
        with pytest.raises(
            UserError, match="backend tcnn evaluates on cpu, got an input on meta and parameters on cpu"
        ):
            module(there)
        with pytest.raises(UserError, match="got an input on meta and parameters on meta; use --device cuda, or leave"):
            module.to("meta")(there)


def test_what_the_bindings_refuse_is_one_line(monkeypatch) -> None:
    def refuse(*args: Any, **keys: Any) -> None:
        raise RuntimeError("only 16, 32, 64 and 128 neurons\nat fully_fused_mlp.cu:1")

    module = types.ModuleType("tinycudann")
    module.Network = refuse
    monkeypatch.setitem(sys.modules, "tinycudann", module)
    with pytest.raises(UserError, match=r"backend tcnn refuses the block: only 16, 32, 64 and 128 neurons$"):
        networks.create(3, 3, on_tcnn({**MLP, "n_neurons": 48}))


@pytest.fixture
def bindings() -> Any:
    try:
        import tinycudann
    except (ImportError, OSError) as error:
        pytest.skip(f"tiny-cuda-nn's bindings are not usable here: {error}")
    return tinycudann


@pytest.mark.cuda
@pytest.mark.parametrize("name", BLOCKS)
def test_numbers_of_the_real_encodings(name: str, bindings) -> None:
    n_dims, block = BLOCKS[name]
    ours, theirs = (encodings.create(n_dims, b) for b in (block, on_tcnn(block)))
    tcnn.load_flat_params(theirs.params.cpu(), ours)
    x = uniform(300, n_dims)
    expected, actual = value_and_gradients(ours, x), value_and_gradients(theirs, x.cuda())
    # as in tests/encodings, where the sizes that round are written; the sines there are fast ones, off by 2^-20 of 1
    assert_close(actual[0].cpu(), expected[0], 200, 1e-3 if "Grid" in block["otype"] else 60)
    # the composite's frequency has 12 octaves: the bindings round an angle of up to 2^11 pi to 2^-24 of it
    bound = 2**11 * math.pi * 2.0**-24 if block["otype"] == "Composite" else 1e-4
    for a, wanted in zip(actual[1:], expected[1:], strict=False):
        assert wanted is None or relative_norm(a.cpu(), wanted) < bound


@pytest.mark.cuda
def test_numbers_of_the_real_networks(bindings) -> None:
    ours, theirs = (networks.create(21, 5, b, 3) for b in (MLP, on_tcnn(MLP)))
    ours.load_state_dict({"params": theirs.params.cpu()})
    x = uniform(300, 21)
    with torch.no_grad():
        # half precision in every layer, sums included: a few of its roundings each
        assert relative_norm(theirs(x.cuda()).cpu(), ours(x)) < 3 * 4 * 2.0**-11
