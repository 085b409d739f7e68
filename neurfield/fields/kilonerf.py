# SPDX-License-Identifier: Apache-2.0
"""KiloNeRF (Reiser et al. 2021): the box of the scene is cut into cells, each with its own tiny network.

    sigma = density_scale * relu(z)      z, rgb: ops.kilo_mlp in the local coordinates of the cell, -1 ... 1

Cells without density have no network. Such a field cannot be trained from nothing: its parameters come from a teacher,
see neurfield.convert.kilonerf.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor, nn

from neurfield import ops
from neurfield.config import Range
from neurfield.errors import UserError
from neurfield.fields.conditions import Conditions
from neurfield.fields.radiance_module import RadianceModule, RenderFn, VisibleFn

_VIEW_PARTS = (("b3", "w3"), ("w_rgb",), ("b_rgb",))  # neighbours of the layer that reads the direction, what follows

_FARTHEST, _NARROWEST = 1e6, 1e-6  # of a box, in unit space: float32 still tells its cells apart


@dataclass(frozen=True)
class KiloNerfConfig:
    """Cells and the shape of their networks.

    `longest` cells cut the longest side of the box, the other sides are cut into nearly cubic ones. `box`, `cells`
    per axis and `n_networks` follow from a teacher and are filled in by the conversion. `density_scale` is the density,
    per unit of unit space, of one unit of a network's output.
    """

    otype: Literal["kilonerf"] = "kilonerf"
    longest: Annotated[int, Range(1, 256)] = 16
    width: Literal[16, 32, 48, 64] = 32
    position_frequencies: Annotated[int, Range(0, 16)] = 10
    direction_frequencies: Annotated[int, Range(0, 16)] = 4
    density_scale: Annotated[float, Range(1e-3, 1e4)] = 150.0
    box: tuple[float, ...] = ()
    cells: tuple[int, ...] = ()
    n_networks: Annotated[int, Range(0, 1 << 24)] = 0

    @property
    def network(self) -> ops.KiloConfig:
        """Shape of the networks, as the operator takes it."""
        return ops.KiloConfig(self.width, self.position_frequencies, self.direction_frequencies)

    def build(self, aabb: Sequence[float], n_views: int = 1) -> "KiloNerf":
        """The field, all of whose cells are empty and all of whose networks are the same (torch's generator).

        Raises:
            UserError: the cells are not known yet, or make no sense.
        """
        if self.n_networks < 1 or len(self.box) != 6 or len(self.cells) != 3:
            raise UserError(
                "a kilonerf field is made from a teacher: neurfield convert RUN --to kilonerf --output RUN2, or "
                "neurfield train DATA --method kilonerf, which trains one first"
            )
        if min(self.cells) < 1 or math.prod(self.cells) > 1 << 24 or self.n_networks > math.prod(self.cells):
            raise UserError(f"kilonerf: {self.n_networks} networks do not fit a grid of {list(self.cells)} cells")
        if not all(
            a >= -_FARTHEST and a + _NARROWEST <= b <= _FARTHEST
            for a, b in zip(self.box[:3], self.box[3:], strict=True)
        ):
            raise UserError(
                f"kilonerf: expected field.box with low corner below high corner, finite, got {list(self.box)}; "
                "convert the teacher again"
            )
        return KiloNerf(self)


class KiloNerf(RadianceModule):
    """Density and colour by the network of the cell that holds a position, zero where there is none.

    Attributes:
        cells: int32 `[z, y, x]`, the network of each cell or -1.
        params: float32 `[n_networks, n_params]`, see ops.KiloConfig.
    """

    sparse_parameters: ClassVar[tuple[str, ...]] = ("params",)
    cells: Tensor

    def __init__(self, config: KiloNerfConfig):
        super().__init__()
        self.config, self.network = config, config.network
        low, high = config.box[:3], config.box[3:]
        x, y, z = (n / (b - a) for n, a, b in zip(config.cells, low, high, strict=True))
        self._low, self._scale = (low[0], low[1], low[2]), (x, y, z)
        self.register_buffer("cells", torch.full(config.cells[::-1], -1, dtype=torch.int32))
        self._view_parts = _view_parts(self.network)
        self.params = nn.Parameter(torch.empty(config.n_networks, self.network.n_params).copy_(_initial(self.network)))

    def grid(self) -> ops.KiloCells:
        """The cells as the operators take them."""
        return ops.KiloCells(self.cells, self._low, self._scale)

    def fused_render(self) -> RenderFn | None:
        """See RadianceModule."""
        return partial(ops.kilo_render, self.params.detach(), self.grid(), self.network, self.config.density_scale)

    def fused_visible(self) -> VisibleFn | None:
        """See RadianceModule."""
        return partial(ops.kilo_visible, self.params.detach(), self.grid(), self.network, self.config.density_scale)

    def raw(self, x: Tensor, directions: Tensor | None) -> Tensor:
        """What the networks give: `[n, 4]` density before its activation and rgb, `[n, 1]` without directions."""
        network, local = ops.kilo_locate(x, self.grid())
        return ops.kilo_mlp(local, directions, network, self.params, self.network)

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """sigma `[n]` per unit of unit space at positions `[n, 3]`, and what it comes from `[n, 1]`."""
        raw = self.raw(x, None)
        return self.config.density_scale * torch.relu(raw[:, 0]), raw

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """sigma `[n]` and rgb `[n, 3]` of positions seen along unit `directions` `[n, 3]`."""
        raw = self.raw(x, directions)
        return self.config.density_scale * torch.relu(raw[:, 0]), raw[:, 1:]

    @torch.no_grad()
    def penalise_view_dependence(self, weight: float) -> Tensor | None:
        """See RadianceModule: `weight` times the sum over the networks of the norm of what depends on the direction.

        Of networks whose colour has a gradient (Reiser et al. 2021, section 3.2). By hand, on views: autograd would
        make gradients of the size of all parameters.
        """
        assert self.params.grad is not None
        parts = [(self.params[:, view], self.params.grad[:, view]) for view in self._view_parts]
        met = parts[-1][1].any(dim=1)  # b_rgb, whose gradient is zero only where the others are
        norm = torch.stack([torch.linalg.vector_norm(part, dim=1) for part, _ in parts]).norm(dim=0)
        scale = (weight * met / norm).nan_to_num(0, 0)[:, None]
        for part, grad in parts:
            grad.addcmul_(part, scale)
        return weight * (norm * met).sum()


def _view_parts(network: ops.KiloConfig) -> list[slice]:
    """Where among the values of a network those lie that depend on the direction."""
    starts = dict(zip(network.shapes, accumulate(map(math.prod, network.shapes.values()), initial=0), strict=False))
    return [slice(starts[names[0]], starts[names[-1]] + math.prod(network.shapes[names[-1]])) for names in _VIEW_PARTS]


def _initial(network: ops.KiloConfig) -> Tensor:
    """One network with the initial values of torch's linear layers, `[1, n_params]`."""
    params = torch.zeros(1, network.n_params)
    shapes = network.shapes
    inputs = {"0": "w0", "1": "w1", "2": "w2", "3": "w3", "_sigma": "w_sigma"}
    for name, part in network.parts(params).items():
        suffix = name[1:]
        fan_in = shapes["w_rgb"][1] if suffix == "_rgb" else shapes[inputs[suffix]][0]
        part.uniform_(-(fan_in**-0.5), fan_in**-0.5)
    return params
