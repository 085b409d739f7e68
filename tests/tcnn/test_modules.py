# SPDX-License-Identifier: Apache-2.0
"""The drop-in for tiny-cuda-nn's bindings: names, shapes, dtypes, gradients, states, errors."""

import copy
import pickle
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from neurfield import tcnn, tiny_cuda_nn
from neurfield.errors import UserError
from neurfield.ops import _common
from tests.cases import SIZES, strided, uniform
from tests.compare import assert_close

GRID = {"otype": "HashGrid", "n_levels": 4, "log2_hashmap_size": 8, "base_resolution": 4, "per_level_scale": 1.5}
MLP = {"otype": "FullyFusedMLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 16}
COMPOSITE = {
    "otype": "Composite",
    "nested": [{"n_dims_to_encode": 1, "otype": "Identity"}, {"otype": "Frequency", "n_frequencies": 2}],
}
MODULES: dict[str, Callable[[], tcnn.Encoding | tcnn.Network | tcnn.NetworkWithInputEncoding]] = {
    "grid": lambda: tcnn.Encoding(3, GRID),
    "composite": lambda: tcnn.Encoding(3, COMPOSITE),
    "network": lambda: tcnn.Network(3, 5, {**MLP, "n_hidden_layers": 2}),
    "both": lambda: tcnn.NetworkWithInputEncoding(3, 5, GRID, {**MLP, "n_hidden_layers": 1}),
}


@pytest.fixture(params=MODULES)
def module(request) -> Any:
    return MODULES[request.param]()


def test_the_module_has_the_names_of_the_bindings() -> None:
    assert {"Encoding", "Network", "NetworkWithInputEncoding", "free_temporary_memory"} <= set(tcnn.__all__)
    assert tcnn.supports_jit_fusion() is False and tcnn.free_temporary_memory() is None
    assert tcnn.rtc_set_cache_dir("anywhere") is None


@pytest.mark.parametrize("n", SIZES)
def test_outputs_have_the_rows_of_the_input(module, n: int) -> None:
    """Whatever their number: tiny-cuda-nn pads them to a multiple of 256 and cuts them again."""
    x = uniform(257, 3)
    y = module(x[:n])
    assert y.shape == (n, module.n_output_dims) and y.dtype == module.dtype == torch.float32
    assert torch.equal(y, module(x)[:n]) and y.is_contiguous()


def test_attributes(module) -> None:
    assert (module.n_input_dims, module.seed, module.loss_scale, module.jit_fusion) == (3, 1337, 1.0, False)
    assert module.params.dtype == torch.float32 and module.params.dim() == 1
    native = module.native_tcnn_module
    assert native.n_params() == module.params.numel() and native.n_input_dims() == 3
    assert native.name() == native.hyperparams()["otype"] and str(native.hyperparams()) in repr(module)
    module.jit_fusion = tcnn.supports_jit_fusion()  # as the samples of tiny-cuda-nn do


def test_outputs_of_networks_are_padded_inside_only() -> None:
    module = MODULES["both"]()
    assert module.n_output_dims == 5 and module.native_tcnn_module.n_output_dims() == 16
    # [16, 16] of 8 features padded, [16, 16] of 5 outputs padded; levels of 4, 6, 9, 14 vertices per axis
    entries = sum(min(-(-(n**3) // 8) * 8, 256) for n in (4, 6, 9, 14))
    assert module.params.shape == (2 * 16 * 16 + 2 * entries,)


def test_hyperparameters_are_resolved() -> None:
    module = tcnn.NetworkWithInputEncoding(3, 1, {"otype": "DenseGrid", "n_levels": 2}, {})
    found = module.native_tcnn_module.hyperparams()
    assert found["encoding"]["per_level_scale"] == pytest.approx(16) and found["encoding"]["otype"] == "Grid"
    assert found["network"] == {
        "otype": "MLP", "activation": "ReLU", "output_activation": "None", "n_neurons": 128, "n_hidden_layers": 5
    }  # fmt: skip
    assert tcnn.Encoding(2, {}).native_tcnn_module.hyperparams() == {"otype": "OneBlob", "n_bins": 16}


def test_dtypes() -> None:
    x = uniform(4, 3)
    half, single = (tcnn.Encoding(3, GRID, dtype=dtype) for dtype in (torch.float16, torch.float32))
    assert (half.loss_scale, single.loss_scale) == (128.0, 1.0)
    assert half(x).dtype == torch.float16 and torch.equal(half(x), single(x).half())
    half(x).sum().backward()
    assert half.params.grad.dtype == torch.float32
    for dtype in (
        torch.float16,
        torch.float64,
    ):  # inputs are read as float32, and so are parameters that someone halved
        assert torch.equal(single(x.to(dtype)), single(x.to(dtype).float()))
    assert single.half()(x).dtype == torch.float32 and single.params.dtype == torch.float16
    with pytest.raises(ValueError, match=r"dtype: expected torch.float16, torch.float32 or None, got torch.float64"):
        tcnn.Encoding(3, GRID, dtype=torch.float64)


def test_inputs_may_be_strided(module) -> None:
    x = uniform(33, 3)
    assert torch.equal(module(strided(x)), module(x))


def test_gradients_are_those_of_differences(module) -> None:
    module.double()
    x = uniform(5, 3, low=0.05, high=0.95, dtype=torch.float64).requires_grad_()
    if module.params.numel():
        with torch.no_grad():
            module.params.mul_(100 if "Grid" in str(module) else 1)
    values = module.params.detach().clone().requires_grad_()

    def function(x, params):
        return torch.func.functional_call(module, {"params": params}, (x,))

    assert torch.autograd.gradcheck(function, (x, values), eps=1e-6, atol=1e-7)


def test_gradients_by_torch_func_are_the_same(module) -> None:
    x, values = uniform(5, 3).requires_grad_(), module.params.detach().clone().requires_grad_()

    def loss(x, params):
        return torch.func.functional_call(module, {"params": params}, (x,)).exp().sum()

    found = torch.func.grad(loss, argnums=(0, 1))(x.detach(), values.detach())
    expected = torch.autograd.grad(loss(x, values), (x, values), materialize_grads=True)
    assert all(torch.equal(*pair) for pair in zip(found, expected, strict=True))


def test_compiles_without_graph_breaks(module, monkeypatch) -> None:
    monkeypatch.setattr(_common, "POOLED_BYTES", 0)  # as if all were large
    compiled, x = torch.compile(module, fullgraph=True, backend="aot_eager"), uniform(9, 3).requires_grad_()
    leaves = [x, *([module.params] if module.params.numel() else [])]
    for a, b in zip(*(torch.autograd.grad(run(x).sum(), leaves) for run in (compiled, module)), strict=True):
        torch.testing.assert_close(a, b)


def test_parameters_are_single_in_any_default() -> None:
    before = torch.get_default_dtype()
    try:
        torch.set_default_dtype(torch.float64)
        module = MODULES["both"]()
    finally:
        torch.set_default_dtype(before)
    assert module.params.dtype == module(uniform(5, 3)).dtype == torch.float32


def test_only_what_needs_a_gradient_gets_one() -> None:
    module, x = MODULES["both"](), uniform(7, 3)
    module(x).sum().backward()
    assert x.grad is None and module.params.grad.abs().sum() > 0
    module.params.requires_grad_(False)
    x.requires_grad_()
    module(x).sum().backward()
    assert x.grad.abs().sum() > 0
    with torch.no_grad():
        assert not module(x).requires_grad


def test_second_derivatives_go_through_the_gradient_of_the_input() -> None:
    """The eikonal term of a distance field, against differences of the gradient."""
    module = tcnn.NetworkWithInputEncoding(3, 1, GRID, {**MLP, "activation": "Softplus", "n_hidden_layers": 1}).double()
    with torch.no_grad():
        module.params.mul_(3)
    x = uniform(4, 3, low=0.1, high=0.9, dtype=torch.float64).requires_grad_()

    def slope(x, params):
        y = torch.func.functional_call(module, {"params": params}, (x,))
        return torch.autograd.grad(y.sum(), x, create_graph=True)[0]

    values = module.params.detach().clone().requires_grad_()
    assert torch.autograd.gradcheck(slope, (x, values), eps=1e-6, atol=1e-6)


def test_the_gradient_of_the_parameters_is_not_differentiated() -> None:
    """It is an error, as in tiny-cuda-nn."""
    module = MODULES["both"]()
    (gradient,) = torch.autograd.grad(module(uniform(4, 3)).sum(), module.params, create_graph=True)
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.square().sum().backward()


def test_a_seed_means_the_same_values_and_leaves_torchs_alone() -> None:
    state = torch.get_rng_state()
    a, b, c = (tcnn.NetworkWithInputEncoding(3, 5, GRID, MLP, seed=seed).params for seed in (7, 7, 8))
    assert torch.equal(a, b) and not torch.equal(a[:512], c[:512]) and not torch.equal(a[-512:], c[-512:])
    assert torch.equal(state, torch.get_rng_state())
    torch.rand(1)
    assert torch.equal(tcnn.NetworkWithInputEncoding(3, 5, GRID, MLP, seed=7).params, a)
    native = tcnn.Encoding(3, GRID).native_tcnn_module
    assert (
        torch.equal(native.initial_params(7), native.initial_params(7)) and native.initial_params(7).abs().max() <= 1e-4
    )


def test_states_copies_and_pickles(module) -> None:
    assert list(module.state_dict()) == ["params"] and [name for name, _ in module.named_parameters()] == ["params"]
    with torch.no_grad():
        module.params.add_(0.01)
    x, fresh = uniform(9, 3), copy.deepcopy(module)
    for other in (fresh, pickle.loads(pickle.dumps(module))):
        assert torch.equal(other(x), module(x)) and other.params is not module.params
    with torch.no_grad():
        fresh.params.zero_()
    fresh.load_state_dict(module.state_dict())
    assert torch.equal(fresh(x), module(x))


def test_blocks_are_read_as_tiny_cuda_nn_reads_them() -> None:
    """Names in any case, numbers of NumPy, a type beside a name; keys that nobody reads are named in a warning."""
    plain = tcnn.NetworkWithInputEncoding(3, 2, GRID | {"interpolation": "Smoothstep"}, MLP)
    block = {
        "otype": "hashgrid", "n_levels": np.int64(4), "log2_hashmap_size": 8, "base_resolution": np.int32(4),
        "per_level_scale": np.float64(1.5), "interpolation": "smoothstep",
    }  # fmt: skip
    odd = tcnn.NetworkWithInputEncoding(3, 2, block, MLP | {"otype": "fullyfusedmlp", "activation": "relu"})
    x = uniform(5, 3)
    assert torch.equal(odd(x), plain(x))
    assert tcnn.Encoding(3, GRID | {"type": "dense"}).native_tcnn_module.hyperparams()["type"] == "Dense"
    nested = [{"otype": "Identity", "n_bins": 4, "degree": 4, "n_dims_to_encode": 3}]
    with pytest.warns(UserWarning, match="encoding Identity: tiny-cuda-nn does not read n_bins, degree, nor does"):
        assert torch.equal(tcnn.Encoding(3, {"otype": "Composite", "nested": nested})(x), x)
    with pytest.warns(UserWarning, match="encoding HashGrid: tiny-cuda-nn does not read init_range"):
        assert tcnn.Encoding(3, GRID | {"init_range": 1e-2}).params.abs().max() <= 1e-4
    with pytest.warns(UserWarning, match="network MLP: tiny-cuda-nn does not read bias"):
        assert tcnn.Network(3, 2, MLP | {"otype": "MLP", "bias": True}).params.shape == (16 * 16 * 6,)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tcnn.Encoding(3, GRID)


def test_the_encoding_of_radiance_caching() -> None:
    """Triangle waves of 3 dimensions, blobs of 5, the rest as it is."""
    x = uniform(5, 10)
    parts = [
        tcnn.Encoding(3, {"otype": "TriangleWave"})(x[:, :3]), tcnn.Encoding(5, {"n_bins": 4})(x[:, 3:8]), x[:, 8:]
    ]  # fmt: skip
    for otype in ("OneBlobFrequency", "nrc"):
        assert torch.equal(tcnn.Encoding(10, {"otype": otype})(x), torch.cat(parts, dim=1))
    assert tcnn.Encoding(8, {"otype": "NRC", "n_frequencies": 2}).n_output_dims == 3 * 2 + 5 * 4


@pytest.mark.parametrize("otype", tiny_cuda_nn.ENCODINGS)
def test_every_encoding_works_with_its_defaults(otype: str) -> None:
    small = {"n_levels": 2} if "Grid" in otype else {"nested": [{}]} if otype == "Composite" else {}
    module = tcnn.NetworkWithInputEncoding(3, 2, {"otype": otype, **small}, MLP)
    assert torch.isfinite(module(uniform(4, 3))).all()


def test_errors() -> None:
    wrong = {
        r"unknown tcnn encoding 'HashGrit', did you mean 'HashGrid'\? \(valid: Identity": {"otype": "HashGrit"},
        r"unknown tcnn encoding 'SAPE' \(valid: Identity, Frequency, TriangleWave, OneBlob": {"otype": "SAPE"},
        r"tcnn encoding: otype: expected a name, got 3": {"otype": 3},
        r"encoding SphericalHarmonics: degree: expected 1 ... 8, got '9'": {"otype": "SphericalHarmonics", "degree": 9},
        r"encoding HashGrid: n_levels: expected an integer, got '2.5'": {"otype": "HashGrid", "n_levels": 2.5},
    }
    for message, block in wrong.items():
        with pytest.raises(UserError, match=message):
            tcnn.Encoding(3, block)
    for message, block in {
        r"network MLP: tiny-cuda-nn has no activation 'Gabor' \(valid: None, ReLU, .*Sine.*Tanh\)": {
            "activation": "Gabor"
        },
        r"unknown tcnn network 'WIRE' \(valid: FullyFusedMLP, MegakernelMLP, CutlassMLP, MLP\)": {"otype": "WIRE"},
        r"network: n_neurons must be a multiple of 16 in 16 ... 512, got 20": {"n_neurons": 20},
    }.items():
        with pytest.raises(UserError, match=message):
            tcnn.Network(3, 1, block)
    for make, message in (
        (lambda: tcnn.Encoding(3, None), "tcnn encoding: expected a mapping of keys to values, got None"),
        (lambda: tcnn.Encoding(3, {"otype": "Composite", "nested": [5]}), "tcnn encoding: expected a mapping.* got 5"),
        (lambda: tcnn.Network(3, 1, None), "tcnn network: expected a mapping of keys to values, got None"),
        (lambda: tcnn.NetworkWithInputEncoding(3, 1, GRID, [MLP]), "tcnn network: expected a mapping"),
        (lambda: tcnn.Encoding(-1, {"otype": "Identity"}), "tcnn: n_input_dims: expected at least 1, got -1"),
    ):
        with pytest.raises(UserError, match=message):
            make()
    module = tcnn.Encoding(3, GRID)
    with pytest.raises(ValueError, match=r"Encoding: expected an input \[n, 3\], got \[2, 4, 3\]"):
        module(torch.rand(2, 4, 3))
    with pytest.raises(ValueError, match=r"Encoding: expected an input on cpu, where the parameters are, got meta"):
        module(torch.rand(2, 3, device="meta"))


def test_parameters_begin_on_the_default_device() -> None:
    with torch.device("meta"):
        module = tcnn.NetworkWithInputEncoding(3, 5, GRID, MLP)
    assert module.params.device.type == "meta" and module(torch.empty(2, 3, device="meta")).shape == (2, 5)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA device")
def test_outputs_on_cuda_are_half() -> None:
    """Of encodings with CUDA kernels; within the roundings of tests/cuda and that to half precision."""
    for block in ({"otype": "SphericalHarmonics"}, {"otype": "Frequency", "n_frequencies": 4}, {"otype": "OneBlob"}):
        module, x = tcnn.Encoding(3, block), uniform(33, 3)
        expected, actual = module(x), module.to("cuda")(x.to("cuda"))
        assert actual.dtype == module.dtype == torch.float16
        assert_close(actual.cpu(), expected, 2)
        assert tcnn.Encoding(3, block, dtype=torch.float32).to("cuda")(x.to("cuda")).dtype == torch.float32
