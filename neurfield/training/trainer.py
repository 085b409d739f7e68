# SPDX-License-Identifier: Apache-2.0
"""The training loop: one for all methods.

A step marches a batch of rays through the occupancy grid, composites the field along them, compares with the pixels and
updates the parameters; the fused step does all of that in one native call where it supports the field. All randomness
is a function of (seed, step), so a run that is continued from a checkpoint equals one that was never interrupted.
"""

import contextlib
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurfield import ops
from neurfield.data.scene import Scene
from neurfield.errors import UserError
from neurfield.fields.radiance_field import RadianceField
from neurfield.rendering.color import BACKGROUNDS, encoded
from neurfield.rendering.renderer import Renderer
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import WARMUP_STEPS, OccupancyGrid
from neurfield.sampling.pixels import PixelSampler
from neurfield.training.ema import Ema
from neurfield.training.guard import NonFiniteGuard
from neurfield.training.method import RunConfig
from neurfield.training.optimizer import Adam
from neurfield.training.schedule import Clock, learning_rate_factor
from neurfield.training.steps import RayBatch, StepResult, make_density, make_step

_FIRST_SAMPLES_PER_RAY = 32  # guess for the first step; the next ones know
_WARMUP_INTERVAL = 16  # steps between the grid's first updates, when most of its cells turn out to be empty
_RAY_GRANULE = 64  # ray counts are multiples of it, so that work divides evenly


@dataclass(frozen=True)
class StepReport:
    """What an observer of the training sees after a step."""

    step: int
    progress: float
    seconds: float
    loss: float
    psnr: float
    learning_rate: float
    n_rays: int
    n_samples: int


class Trainer:
    """Trains a radiance field on the `train` views of a scene.

    Args:
        scene: images of the training views, at least; they are copied into one buffer.
        config: what to train and how; see RunConfig.
        start: time.monotonic() from which the seconds of the budget count; None: now.
        report: takes a line for the user (skipped steps, roll-backs).

    Attributes:
        field, grid, optimizer: the state that a checkpoint keeps.
        step: steps done.
        renderer: draws the field as it is.

    Raises:
        UserError: the scene has no training views, or the method does not fit.
    """

    def __init__(
        self,
        scene: Scene,
        config: RunConfig,
        start: float | None = None,
        report: Callable[[str], None] = lambda line: None,
    ):
        method, norm = config.method, scene.normalization
        self.config, self.budget = config, config.budget
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self.field = RadianceField.from_config(method.field, norm.aabb)
        sampler = method.sampler
        march = MarchOptions.for_box(norm.aabb_scale, sampler.step_scale)
        march = dataclasses.replace(march, stop_transmittance=sampler.stop_transmittance)
        self.grid = OccupancyGrid(norm.aabb_scale, threshold=sampler.occupancy_threshold, decay=sampler.occupancy_decay)
        views = scene.views("train")
        images = [encoded(scene.images[view]) for view in views]
        masks = [scene.masks[view] for view in views] if scene.masks else None
        cameras = scene.unit_cameras("train")
        self.grid.close_unseen(cameras)
        if method.sampler.hull and scene.has_alpha:
            self.grid.carve(cameras, images, masks)
        self.pixels = PixelSampler(images, cameras, masks)
        if method.sampler.hull and scene.has_alpha:
            self.pixels.restrict(self.grid)
        self.optimizer = Adam(self.field, method.optimizer)
        self.ema = Ema(self.field, method.training.ema_decay) if method.training.ema_decay > 0 else None
        rendering = MarchOptions.for_box(norm.aabb_scale, sampler.render_step_scale)
        self.renderer = Renderer(self.field, self.grid, norm, rendering, BACKGROUNDS[method.background])
        self.step = 0
        self.n_rays = self._rounded_rays(method.training.n_samples / _FIRST_SAMPLES_PER_RAY)
        self.clock = Clock(time.monotonic() if start is None else start)
        self.interrupted = False
        self._ended = threading.Event()
        self._take_step = make_step(self.field, self.grid, self.optimizer, march, method, config.seed)
        self._guard = NonFiniteGuard(self.tensors, self._restore_good, report)
        self._good: tuple[int, dict[str, Tensor]] | None = None

    @property
    def progress(self) -> float:
        """Used part of the budget, 0 ... 1."""
        return self.budget.progress(self.clock.seconds(), self.step)

    def train(self, on_step: Callable[[StepReport], None] | None = None) -> None:
        """Steps until the budget is used, or until `end`, Ctrl-C or SIGTERM, which stop after the step in progress.

        Raises:
            MachineError: training gives NaN or Inf and cannot recover.
        """
        with _stop_signals() as stopped:
            while self.progress < 1 and not stopped.is_set() and not self._ended.is_set():
                report = self.train_step()
                if on_step:
                    on_step(report)
            self.interrupted = stopped.is_set()

    def end(self) -> None:
        """Ends `train` after the step in progress as if the budget were used; may be called from any thread."""
        self._ended.set()

    def train_step(self) -> StepReport:
        """One step, whatever the budget says."""
        method, step, progress = self.config.method, self.step, self.progress
        optimizer = method.optimizer
        rate = optimizer.learning_rate * learning_rate_factor(progress, optimizer.decay_start, optimizer.final_fraction)
        interval = method.sampler.update_interval if step >= WARMUP_STEPS else _WARMUP_INTERVAL
        if step > 0 and step % interval == 0:
            # no more densities than the steps since the last update took samples: large boxes have millions of cells
            max_draws = interval * method.training.n_samples
            self.grid.update(step, make_density(self.field), self.config.seed, max_draws)
        batch = self._batch(step)
        result = self._take_step(batch, rate, step)
        finite = self._guard.check(step, result.loss)
        if self.ema and finite and step % method.training.ema_interval == 0:
            self.ema.update(self.field)
        self.step += 1
        self._adapt_rays(result)
        psnr = -10 * math.log10(max(result.squared_error, 1e-12)) if finite else math.nan
        return StepReport(
            self.step, progress, self.clock.seconds(), result.loss, psnr, rate, batch.n_rays, result.n_samples
        )

    def _batch(self, step: int) -> RayBatch:
        """Rays and targets; the background, the same for target and prediction, teaches the field to be empty there."""
        origins, directions, rgba = self.pixels.sample(self.n_rays, step, self.config.seed)
        kind = self.config.method.training.background
        color = None if kind == "random" else torch.tensor(BACKGROUNDS[kind])
        return RayBatch(origins, directions, *ops.over_background(rgba, color, self.config.seed, step))

    def _adapt_rays(self, result: StepResult) -> None:
        """The ray count whose samples would have met the target."""
        wanted = result.n_rays * self.config.method.training.n_samples / max(result.n_samples, 1)
        self.n_rays = self._rounded_rays(min(wanted, 2.0 * self.n_rays))  # an empty batch says little about the next

    def _rounded_rays(self, n: float) -> int:
        rounded = math.ceil(n / _RAY_GRANULE) * _RAY_GRANULE
        return max(min(rounded, self.config.method.training.max_rays), _RAY_GRANULE)

    def tensors(self) -> dict[str, Tensor]:
        """Everything that changes while training, by name; the tensors themselves, not copies."""
        state = {f"field.{name}": value for name, value in self.field.state_dict().items()}
        state |= {f"optimizer.{name}": value for name, value in self.optimizer.tensors().items()}
        state |= {f"occupancy.{name}": value for name, value in self.grid.state_dict().items()}
        if self.ema:
            state |= {f"ema.{name}": value for name, value in self.ema.tensors().items()}
        return state

    def counters(self) -> dict[str, Any]:
        """The rest of the state: plain values."""
        return {
            "step": self.step,
            "n_rays": self.n_rays,
            "seconds": self.clock.seconds(),
            "optimizer_step": self.optimizer.step_count,
            "ema_updates": self.ema.n_updates if self.ema else 0,
        }

    def load(self, tensors: dict[str, Tensor], counters: dict[str, Any]) -> None:
        """Continues from a state that `tensors` and `counters` gave.

        Raises:
            UserError: the state is of another method or scene.
        """
        self._copy(tensors)
        self.step, self.n_rays = counters["step"], counters["n_rays"]
        self.clock.earlier = counters["seconds"]
        self.optimizer.step_count = counters["optimizer_step"]
        if self.ema:
            self.ema.n_updates = counters["ema_updates"]

    def remember(self) -> None:
        """Marks the present state as good, to be restored when training diverges."""
        self._good = (self.step, {name: value.clone() for name, value in self.tensors().items()})

    def _restore_good(self) -> int | None:
        if self._good is None:
            return None
        step, tensors = self._good
        self._copy(tensors)
        return step

    def _copy(self, tensors: dict[str, Tensor]) -> None:
        own = self.tensors()
        if own.keys() != tensors.keys() or any(own[name].shape != tensors[name].shape for name in own):
            raise UserError("the checkpoint is of another method or scene; train a new run")
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(tensors[name])
        self.field.load_state_dict(self.field.state_dict())  # lets modules refresh what they derive from parameters
        self.grid.load_state_dict(self.grid.state_dict())


@contextlib.contextmanager
def _stop_signals() -> Iterator[threading.Event]:
    """Set by the first Ctrl-C or SIGTERM; a second one acts as usual. Outside of the main thread nothing is caught."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    old = {kind: signal.getsignal(kind) for kind in kinds}

    def stop(kind: int, frame: object) -> None:
        stopped.set()
        signal.signal(kind, old[signal.Signals(kind)])

    for kind in kinds:
        signal.signal(kind, stop)
    try:
        yield stopped
    finally:
        for kind in kinds:
            signal.signal(kind, old[kind])
