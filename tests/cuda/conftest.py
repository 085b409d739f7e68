# SPDX-License-Identifier: Apache-2.0
"""Where the kernels of these tests run: on a CUDA device, and on the host, where tests/cuda/host was built."""

import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch

import neurfield.ops
from neurfield import _native
from neurfield.training.device import why_not_cuda


@pytest.fixture
def device() -> torch.device:
    """The current CUDA device; the test is skipped, saying why, without one."""
    reason = why_not_cuda()
    if reason:
        pytest.skip(f"no CUDA: {reason}")
    return torch.device("cuda", torch.cuda.current_device())


@pytest.fixture(scope="session")
def host_module() -> ModuleType:
    """The CUDA kernels over CPU arrays."""
    path = os.environ.get("NEURFIELD_CUDA_ON_HOST")
    if not path:
        pytest.skip("kernels on the host: `make test-cuda-host` builds them and sets NEURFIELD_CUDA_ON_HOST")
    spec = importlib.util.spec_from_file_location("_cuda_on_host", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def kernels_on_host(monkeypatch: pytest.MonkeyPatch, host_module: ModuleType) -> Iterator[pytest.MonkeyPatch]:
    """A context in which operators on CPU tensors call the CUDA kernels, compiled for the host."""

    class Context:
        def __enter__(self) -> None:
            for module in pkgutil.iter_modules(neurfield.ops.__path__, "neurfield.ops."):
                operators = importlib.import_module(module.name)
                if hasattr(operators, "native"):
                    monkeypatch.setattr(operators, "native", lambda tensor: host_module)

        def __exit__(self, *error: object) -> None:
            monkeypatch.undo()

    return Context()


@pytest.fixture
def fma() -> bool:
    """Whether the CPU rounds `madd` once, as CUDA does: only then do the two agree where it is used."""
    return _native.isa in ("avx2", "avx512") or os.uname().machine in ("aarch64", "arm64")
