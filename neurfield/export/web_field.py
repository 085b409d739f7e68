# SPDX-License-Identifier: Apache-2.0
"""What a web page draws: a radiance field, still or moving, as sizes and tensors."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.dynamic import DynamicField
from neurfield.fields.radiance_field import RadianceField
from neurfield.fields.radiance_module import Conditioned, RadianceModule
from neurfield.ops import fused_reason
from neurfield.ops.fused_mlp import MLPConfig
from neurfield.ops.hash_grid import GridConfig


@dataclass(frozen=True)
class WebField:
    """Attributes:
    grids: one of place; of a field that moves another one of place and time.
    table: float16, what one grid reads after what the other does.
    time_scale: the second grid sees a time of 0 ... 1 times this; None: the field is still.
    density, density_params, color, color_params, sh_degree, low, inverse_size, surface: see ops.FusedField.
    """

    grids: tuple[GridConfig, ...]
    table: Tensor
    time_scale: float | None
    density: MLPConfig
    density_params: Tensor
    color: MLPConfig
    color_params: Tensor
    sh_degree: int
    low: list[float]
    inverse_size: list[float]
    surface: Tensor | None

    @staticmethod
    def of(field: RadianceModule) -> "WebField":
        """The parts of a field, in its mean look where it tells photos apart.

        Raises:
            UserError: a page cannot draw it.
        """
        moves = isinstance(field, DynamicField)
        field = field if moves else field.at(Conditions())
        if reason := _reason(field):
            raise UserError(
                "export web needs grids and two networks, as ngp-fast, ngp, ngp-medium, ngp-big and ngp-dynamic have; "
                f"here {reason}. What can be shown instead: a video (neurfield render) or a mesh (neurfield export "
                "mesh)"
            )
        f: Any = field
        encodings = [f.encoding, f.motion_encoding] if moves else [f.encoding]
        return WebField(
            tuple(part.config for part in encodings),
            torch.cat([part.params.detach().half() for part in encodings]),
            f.time_scale if moves else None,
            f.density_network.config,
            f.density_network.params.detach(),
            f.color_network.config,
            f.color_network.params.detach(),
            f.direction_encoding.config.degree,
            f.low.tolist(),
            f.inverse_size.tolist(),
            getattr(f, "surface", None),
        )


def _reason(field: RadianceModule) -> str | None:
    """Why a page cannot draw a field, or None if it can."""
    if isinstance(field, Conditioned) and isinstance(field.field, DynamicField):
        return "it is held at one time, and a page shows all of them: give the run itself, not run.at(time)"
    if isinstance(field, DynamicField) and not isinstance(getattr(field.motion_encoding, "config", None), GridConfig):
        return f"the motion encoding is {type(field.motion_encoding).__name__}, not a grid"
    if not isinstance(field, RadianceField | DynamicField):
        return "it is a field of another kind"
    return fused_reason(field)
