# SPDX-License-Identifier: Apache-2.0
"""How a method samples rays, by the `otype` of its `sampler`. A new one is a class and a line in SAMPLERS."""

from dataclasses import dataclass
from typing import Annotated, Literal

from neurfield.config import Range


@dataclass(frozen=True)
class BaseSamplerConfig:
    """What every sampler is told.

    `step_scale` and `render_step_scale` lengthen the marching step sqrt(3)/1024 of training and of rendering: training
    gains more from many rays than from fine ones, whose samples are at random places. A training ray ends where less
    than `stop_transmittance` of its light is left; rendering goes on to 1e-4. A pixel is the mean of `rays_per_pixel`
    rays on a regular grid within it, as a camera's pixel is of an area; in training it has one ray in its
    middle until `rays_per_pixel_start` of the budget. `hull` starts the occupancy grid from the
    alpha masks of the training images, where they have alpha. The grid is updated every `update_interval` steps (at
    first 16), or never if that is 0; `occupancy_threshold` and `occupancy_decay` are OccupancyGrid's.
    """

    step_scale: Annotated[float, Range(0.25, 16)] = 1.0
    render_step_scale: Annotated[float, Range(0.25, 16)] = 1.0
    rays_per_pixel: Literal[1, 4, 9, 16] = 1
    rays_per_pixel_start: Annotated[float, Range(0, 1)] = 0.0
    hull: bool = True
    update_interval: Annotated[int, Range(0)] = 16
    stop_transmittance: Annotated[float, Range(1e-6, 0.5)] = 1e-4
    occupancy_threshold: Annotated[float, Range(1e-6, 1)] = 0.01
    occupancy_decay: Annotated[float, Range(0.1, 1)] = 0.95


@dataclass(frozen=True)
class SamplerConfig(BaseSamplerConfig):
    """Our own march through the occupancy grid.

    A field with a coarse companion is trained at `n_coarse` places of every ray and `n_fine` that those ask for; the
    grid is then for rendering.
    """

    n_coarse: Annotated[int, Range(1, 1024)] = 64
    n_fine: Annotated[int, Range(0, 1024)] = 128
    otype: Literal["grid"] = "grid"


@dataclass(frozen=True)
class OccGridConfig(BaseSamplerConfig):
    """Training rays are sampled by an OccGridEstimator, whose cells are those of the occupancy grid.

    `backend` names whose: neurfield.nerfacc's, or that of nerfacc itself, which needs CUDA. Samples are left out whose
    opacity is below the smaller of `alpha_threshold` and, as nerfacc has it, the mean of all cells. A closed cell is -1
    in that mean: where many are (`hull`, cells that no camera sees) it is below 0, and no sample is left out.
    """

    alpha_threshold: Annotated[float, Range(0, 1)] = 0.0
    backend: Literal["neurfield", "nerfacc"] = "neurfield"
    otype: Literal["OccGridEstimator"] = "OccGridEstimator"


@dataclass(frozen=True)
class PropNetConfig(BaseSamplerConfig):
    """Training rays are sampled by a PropNetEstimator; the occupancy grid is for rendering.

    Every ray has `n_samples` intervals, which the proposals choose, coarse to fine: `proposal_samples` is how many
    intervals each looks at, `proposal_resolutions` the finest resolution of its grid per unit of unit space. The first
    one's are equal in distance or, with `lindisp`, in its inverse. The proposals learn in every step at first, and from
    step 1000 on in every `proposal_interval`-th. `backend` as of OccGridConfig. The march's `step_scale` does not
    matter in training.
    """

    n_samples: Annotated[int, Range(2, 1024)] = 64
    proposal_samples: tuple[Annotated[int, Range(2, 1024)], ...] = (128,)
    proposal_resolutions: tuple[Annotated[int, Range(17, 4096)], ...] = (128,)
    proposal_interval: Annotated[int, Range(1, 100)] = 5
    sampling_type: Literal["uniform", "lindisp"] = "uniform"
    backend: Literal["neurfield", "nerfacc"] = "neurfield"
    otype: Literal["PropNetEstimator"] = "PropNetEstimator"


AnySamplerConfig = SamplerConfig | OccGridConfig | PropNetConfig
DEFAULT = "grid"
SAMPLERS: dict[str, type[AnySamplerConfig]] = {
    "grid": SamplerConfig,
    "OccGridEstimator": OccGridConfig,
    "PropNetEstimator": PropNetConfig,
}
