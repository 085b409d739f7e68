# SPDX-License-Identifier: Apache-2.0
"""The same bits wherever tensors lie: anywhere in memory, on a stream of their own, on a device that is not the current
one, and behind more values than 32 bits count. Of the CPU, too, what it can show without as much memory."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from neurfield import ops
from neurfield.ops import GridConfig, MLPConfig
from tests.cases import uniform, unit_vectors
from tests.cuda.cases import CASES, Case, Move
from tests.cuda.test_half_products import NETWORKS, check_density, check_network, fused_field, on_device
from tests.cuda.test_same_numbers import bits

ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def check_the_same_bits(case: Case, plainly: Move, otherwise: Move) -> None:
    for expected, actual in zip(case.run(plainly), case.run(otherwise), strict=True):
        assert expected.any_order or torch.equal(bits(actual.value), bits(expected.value)), expected.name


def behind(tensor: Tensor) -> Tensor:
    """A copy that begins one value after its memory does, which is aligned to 16 bytes and more."""
    memory = tensor.new_empty(tensor.numel() + 1)
    return memory[1:].view(tensor.shape).copy_(tensor)


@ALL
def test_tensors_may_begin_anywhere(case: Case) -> None:
    check_the_same_bits(case, torch.clone, behind)


@ALL
@pytest.mark.cuda
def test_tensors_may_begin_anywhere_on_the_device(case: Case, device: torch.device) -> None:
    check_the_same_bits(case, lambda tensor: tensor.to(device), lambda tensor: behind(tensor.to(device)))


@ALL
@pytest.mark.cuda
def test_kernels_wait_for_the_current_stream(case: Case, device: torch.device) -> None:
    """Inputs are zeros until the stream comes to what writes them, long after the call of the operator."""

    def late(tensor: Tensor) -> Tensor:
        there, copy = tensor.to(device), torch.zeros_like(tensor, device=device)
        torch.cuda.current_stream().synchronize()
        torch.cuda._sleep(5_000_000)  # some milliseconds
        return copy.copy_(there)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    expected = list(case.run(lambda tensor: tensor.to(device)))
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        actual = list(case.run(late))
        for plain, other in zip(expected, actual, strict=True):
            assert plain.any_order or torch.equal(bits(other.value), bits(plain.value)), plain.name


# ---- another device ----


@pytest.fixture
def other(device: torch.device) -> torch.device:
    """One that is not the current one."""
    if torch.cuda.device_count() < 2:
        pytest.skip("there is one CUDA device")
    return torch.device("cuda", (device.index + 1) % torch.cuda.device_count())


@ALL
@pytest.mark.cuda
def test_another_device_than_the_current_one(case: Case, device: torch.device, other: torch.device) -> None:
    check_the_same_bits(case, lambda tensor: tensor.to(device), lambda tensor: tensor.to(other))
    assert torch.cuda.current_device() == device.index


@pytest.mark.cuda
def test_tensor_cores_of_another_device_than_the_current_one(device: torch.device, other: torch.device) -> None:
    check_network(lambda *arguments: on_device(other, *arguments), NETWORKS[1], torch.float32, 150)
    check_density("odd widths", lambda x: ops.fused_density(fused_field("odd widths", other), x.to(other)))
    assert torch.cuda.current_device() == device.index


# ---- many values ----

GRID, NETWORK = GridConfig(3, 16, 2, 12, 4, 1.3), MLPConfig(32, 16, 64, 1, bias=True)


def encoded(x: Tensor) -> Tensor:
    return ops.hash_grid(x, uniform(GRID.n_params, low=-1, seed=1).to(x.device), GRID)


def evaluated(x: Tensor, half_products: bool = False) -> Tensor:
    params = uniform(NETWORK.n_params, low=-0.2, high=0.2, seed=1).to(x.device)
    return ops.fused_mlp(x, params, NETWORK, half_products=half_products)


# operators row by row: the last rows of x, and how many values they give or keep of a row
ROWS: dict[str, tuple[Callable[[Tensor], Tensor], Tensor, int]] = {
    "trunc_exp": (ops.trunc_exp, uniform(70, 1, low=-3, high=3), 1),
    "frequency": (lambda x: ops.frequency(x, 16), uniform(70, 1), 32),
    "spherical_harmonics": (lambda x: ops.spherical_harmonics(x, 4), unit_vectors(70), 16),
    "wavelet": (lambda x: ops.wavelet(x, 5.0, 2.0), uniform(70, 8, low=-1), 8),
    "hash_grid": (encoded, uniform(70, 3), 32),
    "fused_mlp": (evaluated, uniform(70, 32, low=-1), 64),
}


def check_the_last_rows(name: str, place: torch.device, n_values: int, half_products: bool = False) -> None:
    """They are the same with rows of zeros in front, which have no gradient, `n_values` values of the widest tensor."""
    call, last, n_columns = ROWS[name]
    if half_products:
        call = partial(evaluated, half_products=True)
    n_rows = n_values // n_columns + 1
    found = []
    for n_in_front in (0, n_rows):
        x = torch.zeros(n_in_front + len(last), last.shape[1], device=place)
        x[n_in_front:] = last.to(place)
        y = call(x.requires_grad_())
        grad_y = torch.zeros_like(y)
        grad_y[n_in_front:] = uniform(len(last), y.shape[1], low=-1, seed=2).to(place)
        (grad_x,) = torch.autograd.grad(y, x, grad_y)
        found.append((y.detach()[n_in_front:].clone(), grad_x[n_in_front:].clone()))
        del x, y, grad_y, grad_x
    (y, grad_x), (y_behind, grad_x_behind) = found
    assert y.abs().amax(1).all() and grad_x.any()
    assert torch.equal(y_behind, y) and torch.equal(grad_x_behind, grad_x)


@pytest.mark.parametrize("name", ROWS)
def test_the_last_of_some_rows(name: str) -> None:
    check_the_last_rows(name, torch.device("cpu"), 1 << 14)


@pytest.mark.cuda
@pytest.mark.parametrize(("name", "half_products"), [*((name, False) for name in ROWS), ("fused_mlp", True)])
def test_the_last_rows_behind_more_than_2_31_values(name: str, half_products: bool, device: torch.device) -> None:
    needed = 60 << 30
    torch.cuda.empty_cache()
    if torch.cuda.mem_get_info()[0] < needed:
        pytest.skip("less than 60 GB of the device's memory are free")
    check_the_last_rows(name, device, 1 << 31, half_products)
    torch.cuda.empty_cache()


@pytest.mark.parametrize(
    ("place", "n"),
    [("cpu", 1 << 14), pytest.param("cuda", 3 << 29, marks=pytest.mark.cuda)],
)
def test_a_ray_whose_samples_are_the_last_of_many(place: str, n: int, request: pytest.FixtureRequest) -> None:
    """Colours of them all are more than 2^32 values on a device."""
    where = request.getfixturevalue("device") if place == "cuda" else torch.device(place)
    if place == "cuda" and torch.cuda.mem_get_info()[0] < 85 << 30:
        pytest.skip("less than 85 GB of the device's memory are free")
    samples = [uniform(90, high=20, seed=1), uniform(90, 3, seed=2), torch.arange(90) / 90, torch.arange(1, 91) / 90]
    found = []
    for n_in_front in (0, n):
        inputs = [torch.zeros(n_in_front + 90, *x.shape[1:], device=where) for x in samples]
        for there, x in zip(inputs, samples, strict=True):
            there[n_in_front:] = x.to(where)
        info = torch.tensor([[n_in_front, 90]], device=where)
        rays = ops.composite(*(x.requires_grad_() for x in inputs[:2]), *inputs[2:], info)
        grads = torch.autograd.grad(rays.rgb.sum() + rays.depth.sum(), inputs[:2])
        found.append([rays.rgb.detach(), rays.weights.detach()[n_in_front:], *(g[n_in_front:] for g in grads)])
        found[-1] = [part.clone() for part in found[-1]]
        del inputs, rays, grads
    for alone, behind_others in zip(*found, strict=True):
        assert alone.any() and torch.equal(alone, behind_others)
