# SPDX-License-Identifier: Apache-2.0
"""What all radiance fields have in common; the rest of the engine asks nothing else of them."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

from torch import Tensor, nn

from neurfield import ops
from neurfield.fields.conditions import Conditions

# (bitfield, coarse, origins, directions, march) -> colour, depth and opacity of rays
RenderFn = Callable[[Tensor, Tensor, Tensor, Tensor, ops.FusedMarch], ops.FusedImage]
# the same, and the rows that there is room for, None: as many as are found -> the samples of rays that have weight
VisibleFn = Callable[[Tensor, Tensor, Tensor, Tensor, ops.FusedMarch, int | None], ops.PackedSamples]


class RadianceModule(nn.Module, ABC):
    """Density and view-dependent colour in a box of unit space.

    Subclasses give `density` and `forward`; the fused paths are accelerations that a field may have. A field that
    `needs` conditions takes them as a further argument of both; without it, it is the field at time 0 with the mean
    look.
    """

    # first words of the parameters whose values wait, without decay of their moments, where their gradient is zero
    sparse_parameters: ClassVar[tuple[str, ...]] = ()
    # of a training step, for each sample: features and activations of two small networks, forward and backward
    step_bytes: int = 2048
    extra_rows: int = 0  # positions that a training step evaluates beside the samples of rays
    needs: tuple[str, ...] = ()  # attributes of Conditions that the field depends on

    @abstractmethod
    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        """sigma `[n]` per unit of unit space at positions `[n, 3]`, and whatever features the field has.

        A field that needs no conditions does not read them.
        """

    def begin_step(self, progress: float) -> None:
        """Called before each training step with the used share of the budget."""

    def companion(self) -> "RadianceModule | None":
        """The coarse field that learns where samples of rays are worth most, or None; part of this module."""
        return None

    def at(self, conditions: Conditions) -> "RadianceModule":
        """This field at one time and in one look, to be looked at: a field that needs nothing.

        Args:
            conditions: of one row each. What the field does not need is not read.
        """
        return Conditioned(self, conditions) if self.needs else self

    def fused(self) -> ops.FusedField | None:
        """What the fused training step takes for this field, or None where it does not support it."""
        return None

    def fused_render(self) -> RenderFn | None:
        """Rendering of rays in native code, or None; gives what march, evaluation and compositing give."""
        return None

    def fused_visible(self) -> VisibleFn | None:
        """Finding what rays reach in native code, or None; gives what rendering.volume.march_visible gives, or,
        with a capacity, ops.visible_samples."""
        return None

    def penalise_view_dependence(self, weight: float) -> Tensor | None:
        """Adds to the gradients that of `weight` times the size of what only the direction of view needs.

        After a backward pass, and of those parameters alone that it has met, so that all others stay as they are.
        Returns the penalty; None: the field has no such part.
        """
        return None


class Conditioned(RadianceModule):
    """A field that needs conditions, with conditions for each of the positions that it will be asked for, or for all.

    It shares the parameters of `field`.
    """

    def __init__(self, field: RadianceModule, conditions: Conditions):
        super().__init__()
        self.field, self.conditions = field, conditions

    def density(self, x: Tensor, conditions: Conditions | None = None) -> tuple[Tensor, Tensor]:
        return self.field.density(x, self.conditions.to(x.device))

    def forward(self, x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        return self.field(x, directions, self.conditions.to(x.device))


def density_of(field: Any) -> Callable[[Tensor], Tensor]:
    """sigma `[n]` of positions `[n, 3]` in unit space, the fastest way, not differentiable.

    Of a field that needs nothing; anything that has a `density` will do.
    """
    fused = field.fused() if hasattr(field, "fused") else None
    return (lambda x: field.density(x)[0]) if fused is None else partial(ops.fused_density, fused)
