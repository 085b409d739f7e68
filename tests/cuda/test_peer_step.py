# SPDX-License-Identifier: Apache-2.0
"""The peers' training step of the benchmark on the CPU, with stand-ins for nerfacc and tiny-cuda-nn that have their
functions. Both are CUDA only, so that their own run waits for a device."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import Tensor

import neurfield.tcnn
from benchmarks.harness import Row
from benchmarks.ops import bench_cuda_step
from benchmarks.peers import cuda_peer, nerfacc_step
from benchmarks.peers.field import Unavailable
from benchmarks.peers.nerfacc_step import PeerTrainer
from neurfield.nerfacc import OccGridEstimator
from neurfield.rendering.volume import composite_samples, packed_samples
from tests.scenes import ball_scene

N_SAMPLES = 4096


def rendering(
    t_starts: Tensor, t_ends: Tensor, ray_indices: Tensor, n_rays: int, rgb_sigma_fn, render_bkgd: Tensor
) -> tuple[Tensor, Tensor, Tensor, dict]:
    """nerfacc's, by our compositing."""
    found = composite_samples(rgb_sigma_fn, packed_samples(ray_indices, t_starts, t_ends, n_rays))
    acc = found.acc[:, None]
    return found.rgb + render_bkgd * (1 - acc), acc, found.depth[:, None], {}


NERFACC = SimpleNamespace(OccGridEstimator=OccGridEstimator, rendering=rendering)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nerfacc_step, "STEP", 1 / 64)
    monkeypatch.setattr(nerfacc_step, "FIRST_RAYS", 256)
    torch.manual_seed(0)


def test_it_learns_the_ball_from_as_many_samples_as_are_asked_for() -> None:
    trainer = PeerTrainer(NERFACC, neurfield.tcnn, ball_scene(n_train=8), N_SAMPLES, torch.device("cpu"))
    steps = [trainer.train_step() for _ in range(40)]
    losses = torch.stack([step.loss for step in steps])
    assert losses[-5:].mean() < 0.3 * losses[:5].mean()
    sizes = [step.n_samples for step in steps[-5:]]
    assert 0.5 * N_SAMPLES < sum(sizes) / 5 < 2 * N_SAMPLES


def test_rays_are_those_of_the_cameras() -> None:
    """A ball's pixel is opaque where its ray passes the middle nearer than the radius."""
    scene = ball_scene(n_train=8)
    trainer = PeerTrainer(NERFACC, neurfield.tcnn, scene, N_SAMPLES, torch.device("cpu"))
    origins, directions, rgba = trainer._drawn()
    middle = scene.normalization.to_unit(torch.zeros(3))
    away = middle - origins
    nearest = (away - (away * directions).sum(1, keepdim=True) * directions).norm(dim=1)
    radius = 0.8 * scene.normalization.scale
    clear = (nearest - radius).abs() > 1e-4
    assert clear.sum() > 200 and torch.equal(rgba[clear, 3] == 1, nearest[clear] < radius)


def test_the_benchmark_has_the_ratio_of_both() -> None:
    own = Row("training", 3.0, "Ms/s")
    step, rate, ratio = bench_cuda_step.peer_rows(
        NERFACC, neurfield.tcnn, own, "cpu", N_SAMPLES, size=16, warm_up=1, n_steps=2
    )
    assert (step.unit, rate.unit, ratio.unit) == ("ms", "Ms/s", "times")
    n_samples = float(step.note.split()[0])
    assert rate.value == pytest.approx(n_samples / step.value / 1e3, rel=1e-3)
    assert ratio.value == own.value / rate.value


def test_a_missing_peer_is_named(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "meta_path", [])  # nothing that is not loaded yet is found
    monkeypatch.delitem(sys.modules, "tinycudann", raising=False)
    with pytest.raises(Unavailable, match=r"^tinycudann is not installed \(pip install git\+https://github.com/NVlabs"):
        cuda_peer.load("tinycudann")
    cuda_peer.found.cache_clear()
    assert [cuda_peer.found("tinycudann") for _ in range(2)] == [None, None]
    assert capsys.readouterr().out.count("no peer: tinycudann is not installed") == 1
    cuda_peer.found.cache_clear()


def test_a_peer_that_fails_to_load_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_device(name: str) -> ModuleType:
        raise OSError("Unknown compute capability.\nEnsure PyTorch with CUDA support is installed.")

    monkeypatch.setattr(cuda_peer.importlib, "import_module", no_device)
    with pytest.raises(Unavailable, match=r"^nerfacc cannot be loaded: Unknown compute capability.$"):
        cuda_peer.load("nerfacc")


@pytest.mark.parametrize(("error", "text"), [(RuntimeError(), "RuntimeError"), (AttributeError("no x"), "no x")])
def test_whatever_a_peer_raises_is_one_line(error: Exception, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> ModuleType:
        raise error

    monkeypatch.setattr(cuda_peer.importlib, "import_module", fail)
    with pytest.raises(Unavailable, match=rf"^nerfacc cannot be loaded: {text}$"):
        cuda_peer.load("nerfacc")
