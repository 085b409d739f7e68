# SPDX-License-Identifier: Apache-2.0
"""nerfacc's estimators as samplers: where their samples lie, that fields learn from them, and whose they are."""

import dataclasses
import sys
import types

import pytest
import torch
from torch import Tensor

from neurfield import nerfacc as ours
from neurfield.errors import MachineError, UserError
from neurfield.nerfacc import backend
from neurfield.rendering.volume import MarchOptions, march_rays, sample_positions
from neurfield.sampling.occupancy_grid import BASE_STEP, CLOSED, OccupancyGrid
from neurfield.training import estimators
from neurfield.training.evaluation import evaluate
from neurfield.training.method import load_method
from neurfield.training.run_folder import RunFolder
from neurfield.training.sampler import OccGridConfig, PropNetConfig
from neurfield.training.session import Session
from neurfield.training.view_set import ViewSet
from tests.cases import uniform, unit_vectors
from tests.scenes import ball_scene, radiance_trainer
from tests.training.test_trainer import assert_same_state, disc, mean_psnr, small_config, trained

OCC, PROP = "sampler={otype: OccGridEstimator, step_scale: 3}", "sampler={otype: PropNetEstimator, n_samples: 32}"
SAMPLERS = pytest.mark.parametrize("sampler", [OCC, PROP], ids=["OccGridEstimator", "PropNetEstimator"])
PLACES = torch.tensor([[0.5, 0.5, 2.5], [0.5, 1.5, 0.5]])  # of cameras


def with_backend(sampler: str) -> str:
    return sampler.replace("}", ", backend: nerfacc}")


def rays(n: int) -> tuple[Tensor, Tensor]:
    origins = 0.5 + 1.5 * unit_vectors(n, seed=1)
    return origins, torch.nn.functional.normalize(uniform(n, 3, seed=2) - origins, dim=1)


def made(config, grid: OccupancyGrid, options: MarchOptions | None = None):
    return estimators.create(config, grid, PLACES, options or MarchOptions.for_box(grid.aabb_scale), 3)


def drawn(config, grid: OccupancyGrid, density, n: int = 300):
    """Samples of n rays, the middles of intervals and their lengths, with the rays."""
    origins, directions = rays(n)
    samples = made(config, grid).samples(origins, directions, density, 7, 0.01)
    positions, _ = sample_positions(samples, origins, directions)
    return samples, positions, samples.t_ends - samples.t_starts


def empty(x: Tensor, rays: Tensor) -> Tensor:
    return x.new_zeros(len(x))


@pytest.mark.parametrize("aabb_scale", [1, 4])
def test_samples_of_the_grid_lie_in_its_cells(aabb_scale: int) -> None:
    grid = OccupancyGrid(aabb_scale, resolution=16)
    grid.density_grid.copy_(uniform(*grid.density_grid.shape, seed=4) - 0.5)
    grid.density_grid[grid.density_grid < -0.2] = CLOSED
    grid.renew_bits()
    _, positions, lengths = drawn(OccGridConfig(), grid, empty)
    if aabb_scale == 1:  # in larger boxes the starts of intervals are tested, as everywhere with a cone
        cells = (positions * 16).long().clamp(0, 15)
        codes = sum((cells[:, axis] >> bit & 1) << (3 * bit + axis) for axis in range(3) for bit in range(4))
        on_a_face = ((positions * 16 - (positions * 16).round()).abs() < 1e-4).any(dim=1)
        assert ((grid.density_grid[0, codes] > 0.01) | on_a_face).all()
        torch.testing.assert_close(lengths, torch.full_like(lengths, BASE_STEP), rtol=0, atol=2**-20)
    origins, directions = rays(300)
    marched = march_rays(grid, origins, directions, MarchOptions.for_box(aabb_scale), (1, 1))
    assert len(positions) > 1000 and abs(len(positions) / len(marched.t_starts) - 1) < 0.05


def test_closed_cells_have_no_samples_and_open_ones_before_anything_was_seen() -> None:
    grid = OccupancyGrid(1, resolution=16)
    assert len(drawn(OccGridConfig(), grid, empty)[1]) > 1000
    grid.density_grid.fill_(CLOSED)
    assert len(drawn(OccGridConfig(), grid, empty)[1]) == 0


@pytest.mark.parametrize("config", [OccGridConfig(), PropNetConfig(n_samples=200)])
def test_what_is_hidden_is_left_out(config) -> None:
    def wall(x: Tensor, rays: Tensor) -> Tensor:
        assert rays.shape == x.shape[:1] and rays.dtype == torch.int64
        return 2000.0 * (x[:, 0] < 0.5) + 1e-3

    samples, positions, _ = drawn(config, OccupancyGrid(1, resolution=16), wall)
    in_wall = positions[:, 0] < 0.5
    # a step in the wall leaves exp(-2000 sqrt(3) / 1024) of the light, three leave 4e-5, less than MARGIN 1e-4
    counts = torch.zeros(300, dtype=torch.int64).index_add(0, samples.ray_indices, in_wall.long())
    assert 0 < int(counts.max()) <= 3 and int((~in_wall).sum()) > 500
    same_ray = samples.ray_indices.diff() == 0
    assert not (in_wall[:-1] & ~in_wall[1:] & same_ray).any()


@pytest.mark.parametrize("config", [OccGridConfig(), PropNetConfig(n_samples=200)])
def test_samples_that_are_no_number_are_shown(config) -> None:
    """A training asks whether its loss is finite, so what is not must be in it; rays without it keep theirs."""

    def broken(x: Tensor, rays: Tensor) -> Tensor:
        return torch.where(rays == 5, torch.nan, 1e-3)

    grid = OccupancyGrid(1, resolution=16)
    whole = drawn(config, grid, lambda x, rays: torch.full((len(x),), 1e-3))[0]
    samples = drawn(config, grid, broken)[0]
    assert torch.equal(whole.ray_indices[whole.ray_indices != 5], samples.ray_indices[samples.ray_indices != 5])
    assert (samples.ray_indices == 5).any()


def test_proposals_learn_where_samples_are_wanted() -> None:
    grid, origins_directions = OccupancyGrid(1, resolution=16), rays(300)
    sampler = made(PropNetConfig(n_samples=16, proposal_samples=(32,)), grid)

    def ball(x: Tensor, rays: Tensor) -> Tensor:
        return 100.0 * ((x - 0.5).norm(dim=1) < 0.2)

    before = {name: value.clone() for name, value in sampler.tensors().items()}
    counts = [len(sampler.samples(*origins_directions, ball, step, 0.02).t_starts) for step in range(150)]
    after = sampler.tensors()
    assert all(not torch.equal(before[name], after[name]) for name in before)
    assert sum(counts[-10:]) > 1.5 * sum(counts[:10])
    # nothing outside of the box: rays beside it, and cameras that look away from it
    away = (torch.full((50, 3), 2.0), unit_vectors(50, seed=9).abs())
    assert len(sampler.samples(*away, lambda x, rays: torch.ones(len(x)), 7, 0.01).t_starts) == 0


def test_proposals_learn_ever_more_rarely() -> None:
    sampler = made(PropNetConfig(n_samples=8, proposal_samples=(8,), proposal_interval=4), OccupancyGrid(1, 16))

    def learned(step: int) -> bool:
        before = float(next(iter(sampler._adam.state.values()))["step"])
        sampler.samples(*rays(64), lambda x, rays: torch.ones(len(x)), step, 0.01)
        return float(next(iter(sampler._adam.state.values()))["step"]) > before

    assert all(learned(step) for step in range(4))
    assert [learned(step) for step in range(500, 504)] == [True, False, True, False]
    assert [learned(step) for step in range(2000, 2006)] == [True, False, False, False, True, False]


def test_the_grid_follows_what_the_estimator_learns() -> None:
    grid = OccupancyGrid(2, resolution=16)
    grid.density_grid[:, ::5] = CLOSED
    sampler = made(OccGridConfig(), grid)

    def half_full(x: Tensor) -> Tensor:
        return 100.0 * (x[:, 0] < 0.5)

    sampler.update(0, half_full, 3, 1)
    closed = torch.arange(16**3) % 5 == 0
    x = torch.zeros(16**3, dtype=torch.long)  # of cells in Morton order
    for bit in range(4):
        x += (torch.arange(16**3) >> 3 * bit & 1) << bit
    for values in grid.density_grid:
        assert (values[closed] == CLOSED).all()
        assert torch.equal(values[~closed] > 0, (x < 8)[~closed])
    bits = (grid.bitfield[0][:, None] >> torch.arange(8) & 1).flatten() != 0
    assert torch.equal(bits, (x < 8) & ~closed)


def test_the_grid_takes_over_no_nan() -> None:
    grid = OccupancyGrid(1, resolution=16)
    sampler = made(OccGridConfig(), grid)
    sampler.update(0, lambda x: torch.where(x[:, 0] < 0.5, torch.nan, 100.0), 3, 1)
    assert grid.density_grid.isfinite().all() and float((grid.density_grid > 0).float().mean()) == 0.5


@SAMPLERS
def test_a_field_learns_from_its_samples(sampler: str) -> None:
    scene = ball_scene()
    trainer = trained(scene, small_config(sampler, steps=150))
    assert evaluate(trainer.task.renderer, scene, "test")["psnr"] > mean_psnr(scene, disc) + 1


@SAMPLERS
def test_a_field_that_has_become_nan_is_noticed(sampler: str) -> None:
    trainer = radiance_trainer(ball_scene(8, 1), small_config(sampler))
    trainer.train_step()
    with torch.no_grad():
        trainer.tensors()["field.density_network.params"].fill_(torch.nan)
    with pytest.raises(MachineError, match=r"no finite loss in 8 steps in a row \(not finite: field.density_network"):
        for _ in range(8):
            trainer.train_step()


@SAMPLERS
def test_resume_is_exact(sampler: str, tmp_path) -> None:
    scene, config = ball_scene(8, 1), small_config(sampler, steps=36)  # with two updates of the grid
    whole = trained(scene, config)
    part, folder = radiance_trainer(scene, config), RunFolder(tmp_path / "run")
    session = Session(part, ViewSet.of_scene(scene), folder)
    for _ in range(20):
        part.train_step()
    session.save()
    rest = radiance_trainer(scene, config)
    Session(rest, ViewSet.of_scene(scene), folder, folder.checkpoints()[-1]).train()
    assert_same_state(rest, whole)


@SAMPLERS
def test_global_random_numbers_are_left_alone(sampler: str) -> None:
    trainer = radiance_trainer(ball_scene(4, 0), small_config(sampler))
    before = torch.get_rng_state()
    for _ in range(17):
        trainer.train_step()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("config", [OccGridConfig(), PropNetConfig()])
def test_samples_follow_from_seed_and_step(config) -> None:
    def starts(global_seed: int, step: int) -> Tensor:
        torch.manual_seed(global_seed)
        with torch.random.fork_rng():
            return made(config, OccupancyGrid(1, 16)).samples(*rays(8), thin, step, 0.01).t_starts

    def thin(x: Tensor, rays: Tensor) -> Tensor:
        return torch.full_like(x[:, 0], 1e-3)

    assert torch.equal(starts(1, 5), starts(2, 5))
    assert starts(1, 5)[0] != starts(1, 6)[0]


class StandInGrid(ours.OccGridEstimator):
    """With the parameters of nerfacc 0.5.3 alone; it makes `binaries` anew in updates, too."""

    def sampling(
        self, rays_o, rays_d, sigma_fn=None, alpha_fn=None, near_plane=0.0, far_plane=1e10, t_min=None, t_max=None,
        render_step_size=1e-3, early_stop_eps=1e-4, alpha_thre=0.0, stratified=False, cone_angle=0.0,
    ):  # fmt: skip
        return super().sampling(
            rays_o, rays_d, sigma_fn, alpha_fn, near_plane, far_plane, t_min, t_max, render_step_size, early_stop_eps,
            alpha_thre, stratified, cone_angle,
        )  # fmt: skip

    def update_every_n_steps(self, step, occ_eval_fn, occ_thre=1e-2, ema_decay=0.95, warmup_steps=256, n=16):
        super().update_every_n_steps(step, occ_eval_fn, occ_thre, ema_decay, warmup_steps, n)
        self.binaries = self.binaries.clone()


class StandInNets(ours.PropNetEstimator):
    """With the parameters of nerfacc 0.5.3 alone."""

    def sampling(
        self, prop_sigma_fns, prop_samples, num_samples, n_rays, near_plane, far_plane, sampling_type="lindisp",
        stratified=False, requires_grad=False,
    ):  # fmt: skip
        return super().sampling(
            prop_sigma_fns, prop_samples, num_samples, n_rays, near_plane, far_plane, sampling_type, stratified,
            requires_grad,
        )  # fmt: skip

    def update_every_n_steps(self, trans, requires_grad=False, loss_scaler=1.0):
        return super().update_every_n_steps(trans, requires_grad, loss_scaler)


@pytest.fixture
def nerfacc(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Stands in for nerfacc, on the CPU."""
    module, kernels = types.ModuleType("nerfacc"), types.ModuleType("nerfacc.cuda")
    module.OccGridEstimator, module.PropNetEstimator = StandInGrid, StandInNets
    kernels._backend = types.SimpleNamespace(_C=object())
    monkeypatch.setitem(sys.modules, "nerfacc", module)
    monkeypatch.setitem(sys.modules, "nerfacc.cuda", kernels)
    monkeypatch.setitem(backend.DEVICES, "nerfacc", ("cpu",))
    return module


@SAMPLERS
def test_nerfacc_itself_may_be_chosen(sampler: str, nerfacc) -> None:
    scene = ball_scene(4, 0)
    theirs = trained(scene, small_config(with_backend(sampler)))
    assert type(theirs.task.estimator._estimator).__module__ == __name__
    assert_same_state(theirs, trained(scene, small_config(sampler)))


@SAMPLERS
def test_without_nerfacc_the_reason_is_one_line(sampler: str, nerfacc, monkeypatch: pytest.MonkeyPatch) -> None:
    scene, config = ball_scene(2, 0), small_config(with_backend(sampler))
    sys.modules["nerfacc.cuda"]._backend._C = None
    with pytest.raises(UserError, match=r"needs nerfacc with CUDA \(it has no kernels and finds no CUDA toolkit to"):
        radiance_trainer(scene, config)
    monkeypatch.setitem(sys.modules, "nerfacc", None)
    name = sampler.split()[1].strip(",")
    expected = (
        rf"^sampler {name}: backend nerfacc needs nerfacc with CUDA \(.*nerfacc.*\); pip install nerfacc, or leave"
    )
    with pytest.raises(UserError, match=expected):
        radiance_trainer(scene, config)
    monkeypatch.setitem(backend.DEVICES, "nerfacc", ("cuda",))
    expected = rf"^sampler {name}: backend nerfacc runs on cuda only, this run is on cpu; use --device cuda, or leave"
    with pytest.raises(UserError, match=expected):
        radiance_trainer(scene, config)


def test_what_does_not_fit_is_one_line() -> None:
    scene = ball_scene(2, 0)
    for sampler, message in (
        ("{otype: OccGridEstimate}", r"sampler.otype: expected one of grid, OccGridEstimator, PropNetEstimator, did"),
        ("{otype: OccGridEstimator, n_samples: 8}", r"unknown key 'sampler.n_samples'"),
        ("{otype: PropNetEstimator, backend: tcnn}", r"sampler.backend: expected one of neurfield, nerfacc"),
        (
            "{otype: PropNetEstimator, proposal_samples: [64, 32]}",
            r"expected as many proposal_resolutions as proposal_samples, at least one, got 1 and 2$",
        ),
        (
            "{otype: PropNetEstimator, proposal_samples: [], proposal_resolutions: []}",
            r"at least one, got 0 and 0$",
        ),
    ):
        with pytest.raises(UserError, match=message):
            radiance_trainer(scene, small_config(f"sampler={sampler}"))
    config = small_config()
    nerf = load_method("nerf", ("field.width=16", "sampler={otype: OccGridEstimator}"))
    with pytest.raises(
        UserError, match=r"method nerf: its field has a coarse one that draws the samples; use sampler g"
    ):
        radiance_trainer(scene, dataclasses.replace(config, method=nerf))


@pytest.mark.cuda
@SAMPLERS
@pytest.mark.parametrize("library", ["neurfield", "nerfacc"])
def test_a_field_learns_on_the_device(sampler: str, library: str) -> None:
    from neurfield.training.device import why_not_cuda

    if reason := why_not_cuda():
        pytest.skip(f"no CUDA: {reason}")
    if library == "nerfacc":
        pytest.importorskip("nerfacc", reason="nerfacc is not installed")
        sampler = with_backend(sampler)
    scene = ball_scene()
    trainer = trained(scene, dataclasses.replace(small_config(sampler, steps=150), device="cuda"))
    assert evaluate(trainer.task.renderer, scene, "test")["psnr"] > mean_psnr(scene, disc) + 1
