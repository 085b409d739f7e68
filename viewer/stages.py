# SPDX-License-Identifier: Apache-2.0
"""Which stage shows which kind of field."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from neurfield.errors import UserError
from neurfield.fields.radiance_field import RadianceField
from neurfield.rendering.color import BACKGROUNDS
from neurfield.run import Run
from neurfield.viewer.photos import Photos
from neurfield.viewer.radiance import RadianceStage
from neurfield.viewer.stage import Stage


def _radiance(run: Run, photos: Photos, version: Callable[[], int]) -> Stage:
    views = run.views
    return RadianceStage(
        run.field,
        run.grid,
        views.normalization,
        run.renderer.options,
        BACKGROUNDS[run.config.method.background],
        views.cameras,
        tuple(views.splits.get("train") or range(len(views.cameras))),
        photos,
        version,
    )


# class of the field: what makes its stage from a run, the photos and a count of the field's changes
STAGES: Mapping[type, Callable[[Any, Photos, Callable[[], int]], Stage]] = MappingProxyType(
    {
        RadianceField: _radiance,
    }
)


def stage_of(run: Run, photos: Photos, version: Callable[[], int] = lambda: 0) -> Stage:
    """The stage of a run.

    Raises:
        UserError: a kind of field that has no view yet.
    """
    for kind, make in STAGES.items():
        if isinstance(run.field, kind):
            return make(run, photos, version)
    known = ", ".join(kind.__name__ for kind in STAGES)
    raise UserError(f"the viewer cannot show a {type(run.field).__name__} yet (it shows: {known})")
