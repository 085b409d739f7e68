# SPDX-License-Identifier: Apache-2.0
"""What a method is: field, sampler, losses and schedule, as frozen dataclasses that YAML presets fill in.

Presets are the files of scenes/methods (installed as neurfield.scenes.methods); docs/training.md explains them.
"""

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, Self

import neurfield
from neurfield import config
from neurfield.config import Block, OneOf, Range
from neurfield.data.options import LoadOptions
from neurfield.errors import UserError
from neurfield.fields import DEFAULT, FIELDS, AnyFieldConfig
from neurfield.fields.radiance_field import FieldConfig
from neurfield.registry import lookup
from neurfield.training.sampler import DEFAULT as DEFAULT_SAMPLER
from neurfield.training.sampler import SAMPLERS, AnySamplerConfig, SamplerConfig
from neurfield.training.schedule import Budget

Fraction = Annotated[float, Range(0, 1)]
NonNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(1e-30)]
Count = Annotated[int, Range(1)]
Device = Literal["cpu", "cuda"]

# seconds of training from which larger tables pay
_LONG = {"cpu": 120.0, "cuda": 60.0}


@dataclass(frozen=True)
class LossConfig:
    """Loss on the composited colour (a block of the loss registry) and weights of the regularisers (0 = off).

    `depth` and `points` weigh the mean error of the distance, 0 ... 1 (losses.depth), of rays whose distance is known:
    from depth maps, or as they go through points of structure from motion, which are a sixteenth of the rays then.
    `view_dependence` weighs what a field says of its size (fields.RadianceModule), of what the step's rays have met.
    """

    color: Block = dataclasses.field(default_factory=lambda: Block(otype="Huber"))
    distortion: NonNegative = 0.0
    opacity_entropy: NonNegative = 0.0
    depth: NonNegative = 0.002
    points: NonNegative = 0.01
    view_dependence: NonNegative = 0.0


@dataclass(frozen=True)
class OptimizerConfig:
    """Adam. The rate stays constant until `decay_start` of the budget, then falls exponentially to `final_fraction`.

    With `decay_stages` it falls in so many equal drops instead, the first of them at `decay_start`.
    Modulation grids learn `modulation_rate` times as fast as everything else (Lee et al. 2024).
    """

    learning_rate: Positive = 1e-2
    modulation_rate: Positive = 10.0
    beta1: Annotated[float, Range(0, 0.9999)] = 0.9
    beta2: Annotated[float, Range(0, 0.999999)] = 0.99
    epsilon: Positive = 1e-15
    l2_reg: NonNegative = 1e-6
    decay_start: Fraction = 0.3
    final_fraction: Annotated[float, Range(1e-6, 1)] = 0.03
    decay_stages: Annotated[int, Range(0, 1000)] = 0


@dataclass(frozen=True)
class LoopConfig:
    """What the training loop itself needs to know.

    `n_samples` is the number of samples of a step. `default_seconds` and `default_iterations` are the budget on a CPU
    and on a GPU when the user names none. `ema_decay` 0 keeps no average; otherwise an average is updated every
    `ema_interval` steps and used for everything but training.
    """

    n_samples: Annotated[int, Range(256, 1 << 22)] = 1 << 18
    ema_decay: Annotated[float, Range(0, 0.9999)] = 0.0
    ema_interval: Count = 16
    default_seconds: Positive = 60.0
    default_iterations: Count = 20000


@dataclass(frozen=True)
class TrainingConfig(LoopConfig):
    """A step on rays: their number follows the `n_samples` that they need.

    `background` is what transparent pixels lie over, and what the field shows where it is empty. `auto` is random, or,
    where opaque images end in white or black all around, that colour, which drawing then has, too. `refine_cameras`
    moves the training cameras to where the field sees their photos from, see training.camera_refinement.
    """

    max_rays: Annotated[int, Range(64, 1 << 20)] = 1 << 16
    background: Literal["auto", "random", "white", "black"] = "auto"
    refine_cameras: bool = False


@dataclass(frozen=True)
class DistillConfig:
    """How a field learns from a teacher before it sees images.

    `teacher` is the preset that is trained first where no trained run is given, for `teacher_share` of the budget;
    distillation takes `seconds`, or `iterations` where that is not 0. A step takes about `n_samples` positions: those
    that training rays reach in `ray_share` of the steps, else `samples_per_network` random ones for each of as many
    networks. Opacities are compared over `reference_step` of unit space.
    A voxel counts as occupied from `density_threshold` per unit on.
    """

    teacher: str = "ngp-medium"
    teacher_share: Fraction = 0.4
    seconds: Positive = 120.0
    iterations: Annotated[int, Range(0)] = 0
    n_samples: Annotated[int, Range(256, 1 << 22)] = 1 << 16
    ray_share: Fraction = 0.75
    samples_per_network: Count = 128
    learning_rate: Positive = 2e-2
    reference_step: Annotated[float, Range(1e-5, 1)] = 0.007
    density_threshold: NonNegative = 10.0


@dataclass(frozen=True)
class MethodConfig:
    """A named preset. `background` is the fixed colour behind transparent pixels outside training.

    `distill` is there for fields that are made from a teacher.
    """

    name: str = "ngp"
    field: Annotated[AnyFieldConfig, OneOf(FIELDS, DEFAULT)] = dataclasses.field(default_factory=FieldConfig)
    sampler: Annotated[AnySamplerConfig, OneOf(SAMPLERS, DEFAULT_SAMPLER)] = dataclasses.field(
        default_factory=SamplerConfig
    )
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    training: TrainingConfig = dataclasses.field(default_factory=TrainingConfig)
    distill: DistillConfig | None = None
    background: Literal["white", "black"] = "white"


def preset_files(folder: str) -> dict[str, Path]:
    """The YAML files of scenes/FOLDER by name."""
    package = Path(neurfield.__file__).parent
    # installed inside the package; beside it in a source tree
    folders = (package / "scenes" / folder, package.parent / "scenes" / folder)
    return {path.stem: path for place in folders for path in sorted(place.glob("*.yaml"))}


def presets() -> dict[str, Path]:
    """Files of the radiance presets by name."""
    return preset_files("methods")


def signal_presets() -> dict[str, Path]:
    """Files of the presets for signals by name."""
    return preset_files("signals")


def default_preset(device: str, max_seconds: float | None, times_differ: bool = False) -> str:
    """What suits the device and the budget; and views of different times, of something that moves."""
    if times_differ:
        return "ngp-dynamic"
    is_long = max_seconds is not None and max_seconds >= _LONG[device]
    return {"cpu": ("ngp-fast", "ngp-medium"), "cuda": ("ngp", "ngp-big")}[device][is_long]


def load_method(name: str, overrides: tuple[str, ...] = ()) -> MethodConfig:
    """A preset by name, or a YAML file by path, with `dotted.key=value` overrides applied.

    Raises:
        UserError: unknown name, or that of a method for signals, or a file or override that does not fit.
    """
    known = presets()
    if name in signal_presets():
        raise UserError(
            f"the method {name!r} is for single files (an image, a mesh, a video, a volume), the data is a scene; "
            f"leave --method out, or give one of {', '.join(known)}"
        )
    path = Path(name) if name.endswith((".yaml", ".yml")) else lookup(known, name, "method")
    return config.override(config.load(MethodConfig, path, known), overrides)


class TrainedMethod(Protocol):
    """What the training loop reads of a method."""

    @property
    def name(self) -> str: ...

    @property
    def optimizer(self) -> OptimizerConfig: ...

    @property
    def training(self) -> "LoopConfig": ...


@dataclass(frozen=True)
class BaseRunConfig:
    """All that decides a run's result beside the data's content; saved as config.yaml and in every checkpoint.

    What kind of field it is comes with a subclass, which adds `method`. Raises UserError for numbers out of range.
    """

    data: str = ""
    experiment_name: str = "unnamed"
    max_seconds: NonNegative | None = None
    max_num_iterations: Annotated[int, Range(0)] | None = None
    seed: Annotated[int, Range(0, (1 << 63) - 1)] = 42
    device: Device = "cpu"
    seconds_per_save: Positive = 30.0
    keep_checkpoints: Count = 2

    def __post_init__(self) -> None:
        config.check_ranges(self)

    if TYPE_CHECKING:

        @property
        def method(self) -> TrainedMethod: ...

    @property
    def budget(self) -> Budget:
        """What ends the run: the limits given, or the method's default for the device."""
        if self.max_seconds is None and self.max_num_iterations is None:
            training = self.method.training
            if self.device == "cuda":
                return Budget(max_num_iterations=training.default_iterations)
            return Budget(max_seconds=training.default_seconds)
        return Budget(self.max_seconds, self.max_num_iterations)

    def data_at(self, data: str | None = None) -> str:
        """Where the data are: at `data`, or else where they were when the run was trained.

        Raises:
            UserError: nobody says where, or they are no longer there.
        """
        if not (data or self.data):
            raise UserError("this run does not know where its data are; give --data (data=... in Python)")
        if not data and not os.path.exists(self.data):  # false, not an error, for names that no file can have
            raise UserError(
                f"{self.data}: the data of this run are no longer there; if they have been moved, give --data "
                "(data=... in Python)"
            )
        return data or self.data

    def with_budget(self, max_seconds: float | None, max_num_iterations: int | None) -> Self:
        """The same with a new budget, if one is given."""
        if max_seconds is None and max_num_iterations is None:
            return self
        return dataclasses.replace(self, max_seconds=max_seconds, max_num_iterations=max_num_iterations)


@dataclass(frozen=True)
class RunConfig(BaseRunConfig):
    """A radiance field of a scene."""

    kind: Literal["radiance"] = "radiance"
    load: LoadOptions = dataclasses.field(default_factory=LoadOptions)
    method: MethodConfig = dataclasses.field(default_factory=MethodConfig)
