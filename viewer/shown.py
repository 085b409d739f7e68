# SPDX-License-Identifier: Apache-2.0
"""What a viewer has to show, and where its pages begin."""

import contextlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from neurfield.cameras.cameras import Cameras
from neurfield.cameras.paths import level, look_at
from neurfield.cameras.poses import up
from neurfield.data.colmap_points import PointCloud
from neurfield.data.scene import Normalization
from neurfield.progress import Progress
from neurfield.training.view_set import ViewSet
from neurfield.viewer.look import Look, Triple, triple
from neurfield.viewer.photos import Photos
from neurfield.viewer.stage import Stage
from neurfield.viewer.triangles import Triangles

_ABOVE = 0.5  # as much as aside


@dataclass(frozen=True)
class Home:
    """Where a page begins.

    Attributes:
        fov: vertical, radians.
        scale: side of the unit cube in the world, to which lengths of the scene are proportional.
    """

    position: Triple
    target: Triple
    up: Triple
    fov: float
    scale: float

    @staticmethod
    def of(views: ViewSet, distance: float = 1.0) -> "Home":
        """What the first training view that was aimed sees (`Cameras.opening`), from `distance` times as far."""
        scale = 1 / views.normalization.scale
        cameras = views.cameras[views.train]
        view, ahead = cameras.opening(scale)
        forward = -cameras.c2w[view, :, 2]
        fov = 2 * torch.atan(cameras.shown_extents[view, 1] / 2)
        target = cameras.c2w[view, :, 3] + ahead * forward
        position = target - distance * ahead * forward
        upward = up(cameras.c2w.double().numpy())
        return Home(triple(position.tolist()), triple(target.tolist()), upward, float(fov), scale)

    @staticmethod
    def before(views: ViewSet, distance: float) -> "Home":
        """Of views alone: `of`, but panoramas, which are before nothing, are all seen from aside and above."""
        home, cameras = Home.of(views, distance), views.cameras[views.train]
        seen = cameras.focus()
        if not seen.is_anywhere:
            return home
        aside = level(cameras.c2w[:1], home.up)[0, :, 2] + _ABOVE * torch.tensor(home.up)
        away = distance * max(float(seen.depths.max()), 0.1 * home.scale)
        position = torch.tensor(seen.point) + away * torch.nn.functional.normalize(aside, dim=0)
        return replace(home, position=triple(position.tolist()), target=triple(seen.point.tolist()))

    @staticmethod
    def around(frame: Normalization, back: Triple, up: Triple, size: float = 1.25) -> "Home":
        """The unit cube's middle seen from the direction `back`; `size` of its sides fit into the picture's height."""
        target, fov = frame.to_world(torch.full((3,), 0.5)), math.radians(40)
        distance = size / 2 / math.tan(fov / 2) / frame.scale
        position = target + distance * torch.nn.functional.normalize(torch.tensor(back), dim=0)
        return Home(triple(position.tolist()), triple(target.tolist()), up, fov, 1 / frame.scale)

    def camera(self, width: int, height: int) -> Cameras:
        """What a page of this size begins with."""
        c2w = look_at(torch.tensor([self.position]), torch.tensor(self.target), self.up)
        return Cameras.pinhole(c2w, height / 2 / math.tan(self.fov / 2), width, height)


@dataclass(frozen=True)
class Curve:
    """How a training went: `(step, value)`, and what the values are."""

    label: str = "PSNR, dB"
    points: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Exports:
    """Files of a field that a page may ask for.

    Attributes:
        mesh: writes one to a path, given the look whose crop box, time and appearance count, cells along the longest
            side and who hears of the progress; returns the number of triangles.
        points: writes a point cloud, given the number of points in place of the cells.
        page: writes a web page, given the look alone; None: what is shown cannot be one.
        textured: writes a mesh whose colours are in a texture, whose side in texels is given before who hears of the
            progress; None: what is shown has no colours.
    """

    mesh: Callable[[Look, Path, int, Progress], int]
    points: Callable[[Look, Path, int, Progress], None]
    page: Callable[[Look, Path], object] | None = None
    textured: Callable[[Look, Path, int, int, Progress], int] | None = None


@dataclass(frozen=True)
class Shown:
    """What a viewer has to show.

    Attributes:
        name: of the data.
        home: where pages begin.
        frame: from the world to the unit cube that holds what there is.
        stage: paints the field; None before there is one.
        exports: None where there is nothing to be exported.
        views, photos: cameras and splits of a scene, world frame, and their images; None for everything else.
        cloud: points that were found with the cameras, world frame.
        triangles: the mesh that a distance field is of.
        curve: of the training so far.
    """

    name: str
    home: Home
    frame: Normalization
    stage: Stage | None = None
    exports: Exports | None = None
    views: ViewSet | None = None
    photos: Photos | None = None
    cloud: PointCloud | None = None
    triangles: Triangles | None = None
    curve: Curve = Curve()


def curve_of(folder: Path) -> Curve:
    """What a run folder's metrics.jsonl has: the PSNR by step, or the loss where there is none."""
    found: dict[str, list[tuple[int, float]]] = {"train/psnr": [], "train/loss": []}
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            for name, points in found.items():
                if entry.get(name) is not None and math.isfinite(entry[name]):
                    points.append((int(entry["step"]), float(entry[name])))
    if found["train/psnr"]:
        return Curve(points=tuple(found["train/psnr"]))
    return Curve("loss", tuple(found["train/loss"]))
