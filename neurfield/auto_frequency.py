# SPDX-License-Identifier: Apache-2.0
"""The frequency parameter of a method, chosen for data before training (FreSh, neurfield.fresh).

Files of single signals are compared with fields as they will be trained; of images, videos and volumes, short trainings
of the nearest field, of the method's own and of neighbours then decide. Of a scene, a few training images are compared
with the colours that an untrained field has on slices through the middle of its box, each across the axis of a view and
as large as what the view sees there; the direction is that of the view's middle, and nothing is composited.
"""

import dataclasses
import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from neurfield import fresh
from neurfield.cameras.cameras import Cameras
from neurfield.config import Block, assigned
from neurfield.data.scene import Scene
from neurfield.data.signals.grid import GridSignal
from neurfield.errors import UserError
from neurfield.fields import DynamicConfig, FieldConfig, NerfConfig
from neurfield.files import atomic_write
from neurfield.fresh.candidates import default_parameter, own_value
from neurfield.progress import Progress, silent
from neurfield.rendering.color import BACKGROUNDS, over_background
from neurfield.signal_kinds import KINDS
from neurfield.training.method import Device, MethodConfig
from neurfield.training.schedule import Budget
from neurfield.training.signal_method import SignalMethod
from neurfield.training.trainer import Trainer
from neurfield.training.trial import Trials

N_VIEWS = 2
VIEW_SIDE = 512  # points a side of a training image at most
NEAR = 1e-2  # depth in the unit cube below which a slice is hardly more than a point
VIEW_BINS = 64  # half of what is compared of images (Kania et al. 2025)
FREQUENCIES = range(2, 13)  # octaves of a NeRF
SHARE = 0.1  # of a budget in seconds, after which nothing is begun that may be left out
MAX_TRIALS = 6  # 6/80 of a training
REPORT, PICTURE = "frequency.json", "frequency.png"
_SAME = {  # keys of a field that say the same as a chosen one
    "encoding.max_resolution": ("encoding.per_level_scale", "max_resolution", "finest"),
}


def for_signal(
    method: SignalMethod,
    signal: Any,
    overrides: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    budget: Budget | None = None,
    known: Tensor | None = None,
    device: Device = "cpu",
) -> tuple[SignalMethod, fresh.Choice]:
    """The method with the parameter that suits the signal, and what was found.

    That is the one whose untrained fields have the nearest spectrum, as published. Of an image, a video or a volume,
    and with a budget that leaves time for it, trials (see neurfield.training.trial) of that one and of what the method
    has follow, then of neighbours of the better one, and the best is taken (neurfield.fresh.climb).

    Args:
        signal: what the kind's reader gave.
        overrides: single values that the user has set.
        seed: of the first initialisation, and of trials.
        progress: takes the finished part, 0 ... 1.
        budget: of the training; the choice ends early rather than take much more than SHARE of its seconds. None: no
            trials.
        known: flat indices int64 `[n]`, ascending, of the samples that trials may see; None: all.
        device: of trials; spectra are the CPU's.

    Raises:
        UserError: the method has no such parameter, the user has set it, or the signal has no spectrum.
    """
    start, field = time.perf_counter(), method.field
    key = _key(method.name, field.encoding, field.network, overrides)
    candidates, sampled = signal_candidates(method, signal, key)
    has_trials = budget is not None and isinstance(signal, GridSignal)
    spectra = (lambda part: progress(part / 2)) if has_trials else progress
    choice = fresh.choose(sampled, candidates, seed=seed, progress=spectra, max_seconds=_share(budget))

    def changed(value: float | None) -> SignalMethod:
        if value is None:
            return method
        encoding, network = candidates.blocks(value)
        return dataclasses.replace(
            method, field=dataclasses.replace(field, encoding=Block(encoding), network=Block(network))
        )

    if has_trials:
        assert budget is not None
        trials = Trials(signal, budget, method.training.n_samples, seed, known, device)

        def may_begin(n: int) -> bool:
            progress((1 + n / MAX_TRIALS) / 2)
            ends = time.perf_counter() - start + trials.longest
            return n < MAX_TRIALS and trials.are_telling and ends <= _share(budget)

        own = own_value(key, field.encoding, field.network)
        tried = fresh.climb(choice, own, lambda value: trials.psnr(changed(value)), may_begin)
        choice = dataclasses.replace(choice, trials=tried)
    return changed(choice.value), _timed(choice, start)


def signal_candidates(
    method: SignalMethod, signal: Any, key: str | None = None, values: Sequence[float] | None = None
) -> tuple[fresh.Candidates, Tensor]:
    """The fields that differ in a key (see fresh.sweep for defaults), and the data `[n_channels, ...]` as they see it.

    Raises:
        UserError: as fresh.sweep.
    """
    kind, field = KINDS[method.kind], method.field
    sampled = kind.sampled(signal)

    def build(encoding: Any, network: Any, seed: int) -> fresh.Model:
        changed = dataclasses.replace(field, encoding=Block(encoding), network=Block(network))
        return kind.field(changed, signal.info, seed)

    blocks = field.encoding, field.network
    return fresh.sweep(*blocks, sampled.dim() - 1, sampled.shape[0], key=key, values=values, build=build), sampled


def for_scene(
    method: MethodConfig,
    scene: Scene,
    overrides: Sequence[str] = (),
    seed: int = 0,
    progress: Progress = silent,
    budget: Budget | None = None,
) -> tuple[MethodConfig, fresh.Choice]:
    """The same for a radiance field, from training images of the scene.

    Raises:
        UserError: as for_signal.
    """
    start, field, norm = time.perf_counter(), method.field, scene.normalization
    if isinstance(field, NerfConfig):
        _refuse_set("position_frequencies", overrides)
        cycles = field.scale / (2 * math.pi)
        candidates = fresh.Candidates(
            "position_frequencies",
            tuple(FREQUENCIES),
            lambda v, seed: _seeded(dataclasses.replace(field, position_frequencies=int(v)), norm.aabb, seed),
            lambda v: ({}, {}),
            highest=lambda v: cycles * 2 ** (v - 1),
        )
    elif isinstance(field, FieldConfig):
        key = _key(method.name, field.encoding, field.density_network, overrides)

        def build(encoding: Any, network: Any, seed: int) -> fresh.Model:
            changed = dataclasses.replace(field, encoding=Block(encoding), density_network=Block(network))
            return _seeded(changed, norm.aabb, seed)

        candidates = fresh.sweep(field.encoding, field.density_network, 3, 3, key=key, build=build)
    elif isinstance(field, DynamicConfig):
        raise UserError("--auto-frequency: cannot choose for a dynamic field, whose photos show different times")
    else:
        raise UserError(
            f"--auto-frequency: a {field.otype} field is made from a teacher; choose for the teacher and convert it"
        )
    views, slices = _views(scene, method)
    extent = max(s.extent for s in slices) / norm.aabb_scale
    of_box = candidates.highest
    assert of_box is not None  # the key is one of those that are known
    seen = dataclasses.replace(
        candidates,
        build=lambda value, seed: _on_slices(candidates.build(value, seed), slices),
        highest=lambda value: of_box(value) * extent,
    )
    choice = fresh.choose(views, seen, VIEW_BINS, seed=seed, progress=progress, max_seconds=_share(budget))
    nearest = choice.values[choice.index]
    if isinstance(field, NerfConfig):
        chosen: Any = dataclasses.replace(field, position_frequencies=int(nearest))
    else:
        encoding, network = candidates.blocks(nearest)
        chosen = dataclasses.replace(field, encoding=Block(encoding), density_network=Block(network))
    return dataclasses.replace(method, field=chosen), _timed(choice, start)


def describe(choice: fresh.Choice) -> str:
    """One line for the user."""
    values, value = choice.values, choice.value
    notes = f"; {len(choice.left_out)} finer than the data left out" if choice.left_out else ""
    if choice.flat:
        notes += f"; {len(choice.flat)} constant or not finite before training left out"
    if choice.key == "encoding.max_resolution" and not choice.trials:  # measured: docs/methods/fresh.md
        notes += "; meant for small tables, large ones hold more with the finer grid of the preset"
    chosen = f"{value:g} of {values[0]:g} ... {values[-1]:g}" if value is not None else "the method's own"
    why = f"{choice.distances[choice.index]:.2f} bins from the data"
    if choice.trials:
        why = f"best of {len(choice.trials)} trials, {values[choice.index]:g} is nearest to the data"
    return f"frequency: {choice.key} = {chosen}, {why}, chosen in {choice.seconds:.1f} s{notes}"


def check_left(trainer: Trainer) -> None:
    """Raises UserError when the choice has left no second of the budget for training."""
    seconds = trainer.budget.max_seconds
    if seconds is not None and trainer.clock.seconds() >= seconds:
        raise UserError(
            f"--auto-frequency: nothing is left of {seconds:g} s to train in; give more --max-seconds, or leave it out"
        )


def write_report(folder: Path, choice: fresh.Choice) -> None:
    """Writes frequency.json and frequency.png (spectra and ranking) into a run's folder.

    Raises:
        MachineError: nothing can be written.
    """
    with atomic_write(folder / REPORT) as file:
        file.write((json.dumps(choice.report(), indent=1) + "\n").encode())
    with atomic_write(folder / PICTURE) as file:
        fresh.draw(choice).save(file, format="PNG")


def _key(name: str, encoding: Any, network: Any, overrides: Sequence[str]) -> str:
    parameter = default_parameter(encoding, network)
    if parameter is None:
        raise UserError(
            f"--auto-frequency: the method {name!r} has no parameter that is known to choose its frequencies (encoding "
            f"{encoding.get('otype')}, activation {network.get('activation', 'ReLU')}); leave it out"
        )
    _refuse_set(parameter.key, overrides)
    return parameter.key


def _refuse_set(key: str, overrides: Sequence[str]) -> None:
    for override in overrides:
        names = (name.removeprefix("field.").replace("density_network.", "network.") for name in assigned(override))
        if not {key, *_SAME.get(key, ())}.isdisjoint(names):
            raise UserError(f"--auto-frequency chooses field.{key}, and --set {override} does; leave one of them out")


def _share(budget: Budget | None) -> float:
    return math.inf if budget is None or budget.max_seconds is None else SHARE * budget.max_seconds


def _timed(choice: fresh.Choice, start: float) -> fresh.Choice:
    return dataclasses.replace(choice, seconds=time.perf_counter() - start)


def _seeded(config: Any, aabb: Sequence[float], seed: int) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(aabb)


@dataclass(frozen=True)
class _Slice:
    """A rectangle across a view: position `[3]` of the picture's upper left corner in unit space, what its width and
    its height span `[3]`, and the direction of the view `[3]`."""

    corner: Tensor
    across: Tensor
    down: Tensor
    direction: Tensor

    @property
    def extent(self) -> float:
        return float(torch.maximum(self.across.norm(), self.down.norm()))

    def positions(self, at: Tensor) -> Tensor:
        """Unit space of picture coordinates `[n, 2]` in 0 ... 1."""
        return self.corner + at[:, :1] * self.across + at[:, 1:] * self.down


def _slice(camera: Cameras) -> _Slice:
    """Of a camera (a batch of one) in unit space; lens distortion is left out. As deep as the middle of the box; as its
    distance where it is not in front of the camera, and half the box away where the camera stands in it."""
    rotation, eye = camera.c2w[0, :, :3], camera.c2w[0, :, 3]
    forward = -rotation[:, 2]
    to_middle = torch.full((3,), 0.5) - eye
    depth = float(to_middle @ forward)
    depth = depth if depth > NEAR else float(to_middle.norm())  # a camera that looks outwards
    depth = depth if depth > NEAR else 0.5  # one in the middle
    fl_x, fl_y, cx, cy = camera.intrinsics[0].tolist()
    width, height = camera.sizes[0].tolist()
    right, up = rotation[:, 0] * depth, rotation[:, 1] * depth
    corner = eye + forward * depth - right * (cx / fl_x) + up * (cy / fl_y)
    return _Slice(corner, right * (width / fl_x), -up * (height / fl_y), forward)


def _views(scene: Scene, method: MethodConfig) -> tuple[Tensor, list[_Slice]]:
    """A few training images `[3 n, side, side]`, and where their cameras look."""
    views = scene.views("train")
    n = min(N_VIEWS, len(views))
    places = [round(i * (len(views) - 1) / max(n - 1, 1)) for i in range(n)]
    background = torch.tensor(BACKGROUNDS[method.background])
    images = [over_background(scene.images[views[i]], background).permute(2, 0, 1) for i in places]
    side = min(VIEW_SIDE, *(size for image in images for size in image.shape[1:]))
    cameras = scene.unit_cameras("train")
    return torch.cat([fresh.resize(image, side) for image in images]), [_slice(cameras[i]) for i in places]


def _on_slices(field: Any, slices: list[_Slice]) -> fresh.Model:
    def colors(at: Tensor) -> Tensor:
        parts = [field(s.positions(at), s.direction.expand(at.shape[0], 3).contiguous())[1] for s in slices]
        return torch.cat(parts, dim=1)

    return colors
