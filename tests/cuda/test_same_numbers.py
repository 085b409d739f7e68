# SPDX-License-Identifier: Apache-2.0
"""CPU and CUDA kernels give the same numbers: on a device where there is one, and on the host."""

from collections.abc import Iterable

import pytest
import torch

from tests.compare import assert_close
from tests.cuda.cases import CASES, Case, Result

ALL = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)


def compare(cpu: Iterable[Result], cuda: Iterable[Result], fma: bool) -> None:
    for expected, actual in zip(cpu, cuda, strict=True):
        if expected.fma_only and not fma:
            continue
        value = actual.value.detach().cpu()
        try:
            if expected.roundings == 0:
                torch.testing.assert_close(value, expected.value.detach(), rtol=0, atol=0, equal_nan=True)
            else:
                scale = expected.scale.cpu() if isinstance(expected.scale, torch.Tensor) else expected.scale
                assert_close(value, expected.value.detach(), expected.roundings, scale)
        except AssertionError as error:
            raise AssertionError(f"{expected.name}: {error}") from None


def bits(tensor: torch.Tensor) -> torch.Tensor:
    """Bytes, in which NaN equals itself."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


@ALL
@pytest.mark.cuda
def test_the_device_gives_the_numbers_of_the_cpu(case: Case, device: torch.device, fma: bool) -> None:
    compare(list(case.run(lambda tensor: tensor.clone())), list(case.run(lambda tensor: tensor.to(device))), fma)


@ALL
@pytest.mark.cuda
def test_the_device_gives_the_same_bits_twice(case: Case, device: torch.device) -> None:
    for first, second in zip(*(list(case.run(lambda tensor: tensor.to(device))) for _ in range(2)), strict=True):
        assert first.any_order or torch.equal(bits(first.value), bits(second.value)), first.name


@ALL
def test_the_kernels_give_the_numbers_of_the_cpu_on_the_host(case: Case, kernels_on_host, fma: bool) -> None:
    expected = list(case.run(lambda tensor: tensor.clone()))
    with kernels_on_host:
        actual = list(case.run(lambda tensor: tensor.clone()))
    compare(expected, actual, fma)
