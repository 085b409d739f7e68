# SPDX-License-Identifier: Apache-2.0
"""What a viewer shows of scenes: a radiance field with the views it was trained on, or the views alone."""

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from neurfield.data.colmap_points import PointCloud, read_points
from neurfield.data.views import Manifest
from neurfield.errors import UserError
from neurfield.export.mesh import export_mesh
from neurfield.export.point_cloud import export_point_cloud
from neurfield.export.web_page import export_web
from neurfield.progress import Progress
from neurfield.rendering.color import BACKGROUNDS
from neurfield.run import Run
from neurfield.training.view_set import ViewSet
from neurfield.viewer.look import Look
from neurfield.viewer.photos import Photos, photos_of_run
from neurfield.viewer.radiance import RadianceStage
from neurfield.viewer.shown import Exports, Home, Shown

log = logging.getLogger("neurfield.viewer")
_ALONE = 2.2  # how much further away a page begins when there are only cameras to be seen


def scene_run(run: Run, photos: Photos | None, version: Callable[[], int]) -> Shown:
    """A radiance field; `photos` None: they are read from where the run found them."""
    views = run.views
    photos = photos or photos_of_run(run)
    stage = RadianceStage(
        run.field,
        run.grid,
        views.normalization,
        run.renderer.options,
        BACKGROUNDS[run.config.method.background],
        views.cameras,
        tuple(views.train),
        photos,
        version,
    )

    def mesh(look: Look, path: Path, resolution: int, progress: Progress) -> int:
        return export_mesh(_shown(run, look), path, resolution, progress=progress).report.n_faces

    def textured(look: Look, path: Path, resolution: int, texture: int, progress: Progress) -> int:
        shown = _shown(run, look)
        return export_mesh(shown, path, resolution, texture=texture, progress=progress).report.n_faces

    def points(look: Look, path: Path, n_points: int, progress: Progress) -> None:
        export_point_cloud(_shown(run, look), path, n_points, progress=progress)

    def page(look: Look, path: Path) -> None:
        export_web(_cropped(run if run.is_dynamic else _at(run, look), look), path)

    home = Home.of(views)
    return Shown(
        views.name,
        home,
        views.normalization,
        stage,
        Exports(mesh, points, page, textured if find_spec("xatlas") else None),
        views,
        photos,
    )


def scene_data(manifest: Manifest) -> Shown:
    """The views of a data set that was read, before there is a field."""
    views = ViewSet.of_manifest(manifest)
    cloud = _cloud(manifest)
    home, photos = Home.before(views, _ALONE), Photos(lambda: manifest)
    return Shown(views.name, home, views.normalization, views=views, photos=photos, cloud=cloud)


def _cloud(manifest: Manifest) -> PointCloud | None:
    """The points of a sparse model; a broken file of them is told, and costs no more than them."""
    if manifest.sparse_model is None:
        return None
    try:
        return read_points(manifest.sparse_model, manifest.normalization.origin)
    except UserError as error:
        log.warning("viewer: %s; the cameras are shown without points", error)
        return None


def _shown(run: Run, look: Look) -> Run:
    """The run at the time and in the look of a page, without what its crop box leaves out."""
    return _cropped(_at(run, look), look)


def _at(run: Run, look: Look) -> Run:
    return run.at(look.time if run.is_dynamic else None, look.appearance)


def _cropped(run: Run, look: Look) -> Run:
    crop, norm = look.crop, run.views.normalization
    if crop is None:
        return run
    grid = run.grid.cropped(lambda x: crop.inside(norm.to_world(x)))
    return Run(run.config, run.views, run.field, grid, run.step)
