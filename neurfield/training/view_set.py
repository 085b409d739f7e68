# SPDX-License-Identifier: Apache-2.0
"""The views that a field of a scene was made of, as its checkpoints tell of them."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from torch import Tensor

from neurfield.cameras.cameras import Cameras
from neurfield.cameras.corrections import corrected
from neurfield.data.load import cameras
from neurfield.data.scene import Normalization, Scene, views_of
from neurfield.data.views import Manifest
from neurfield.fields import AnyFieldConfig
from neurfield.fields.radiance_module import RadianceModule

CORRECTIONS = "cameras.corrections"  # of training cameras; state of a training, and told of what is made of it


@dataclass(frozen=True, repr=False)
class ViewSet:
    """The views of a scene without their images: what rendering a split needs.

    Attributes:
        read: cameras as they were read, world frame.
        corrections: of training cameras that were refined, `[n_train, 6]` in unit space, see
            neurfield.cameras.corrections; None: they are as they were read.
    """

    name: str
    read: Cameras
    splits: dict[str, list[int]]
    normalization: Normalization
    paths: list[str]
    corrections: Tensor | None = None

    def __repr__(self) -> str:
        return f"ViewSet({self.name!r}, {self.cameras})"

    @property
    def cameras(self) -> Cameras:
        """Where the cameras are, world frame."""
        if self.corrections is None:
            return self.read
        train, c2w, moved = self.splits["train"], self.read.c2w.clone(), self.corrections.detach().cpu().clone()
        moved[:, 3:] /= self.normalization.scale
        c2w[train] = corrected(c2w[train], moved)
        return replace(self.read, c2w=c2w)

    def moved(self, corrections: Tensor | None) -> "ViewSet":
        """The same with corrections of the training cameras, or with none."""
        return replace(self, corrections=corrections)

    def placed(self, scene: Scene, split: str) -> Scene:
        """The scene, which has this split, with the cameras of that where they are here."""
        if self.corrections is None:
            return scene
        c2w = scene.cameras.c2w.clone()
        c2w[scene.views(split)] = self.cameras.c2w[self.views(split)]
        return replace(scene, cameras=replace(scene.cameras, c2w=c2w))

    @staticmethod
    def of_scene(scene: Scene) -> "ViewSet":
        return ViewSet(scene.name, scene.cameras, scene.splits, scene.normalization, scene.paths)

    @staticmethod
    def of_manifest(manifest: Manifest) -> "ViewSet":
        paths = [str(view.path or view.name) for view in manifest.views]
        splits = {name: list(views) for name, views in manifest.splits.items()}
        return ViewSet(manifest.name, cameras(manifest.views), splits, manifest.normalization, paths)

    def views(self, split: str) -> list[int]:
        """View indices of a split; raises UserError when it is unknown or empty."""
        return views_of(self.name, self.splits, split)

    @property
    def train(self) -> list[int]:
        """View indices of the training views, or of all views where there are none."""
        return self.splits.get("train") or list(range(len(self.read)))

    def build(self, field: AnyFieldConfig) -> RadianceModule:
        """The field that a configuration describes, for these views."""
        return field.build(self.normalization.aabb, len(self.splits.get("train", [])))

    def tensors(self) -> dict[str, Tensor]:
        tensors = {f"cameras.{name}": value for name, value in vars(self.read).items()}
        return tensors if self.corrections is None else tensors | {CORRECTIONS: self.corrections}

    def header(self) -> dict[str, Any]:
        return {
            "scene": {"name": self.name, "splits": self.splits, "paths": self.paths},
            "normalization": asdict(self.normalization),
        }


def unpack_views(tensors: dict[str, Tensor], header: dict[str, Any]) -> ViewSet:
    """The views whose `tensors` and `header` are in a checkpoint.

    Raises:
        KeyError, TypeError, ValueError: it has none, or such as no scene has.
    """
    scene, norm = header["scene"], header["normalization"]
    stored = Cameras(*(tensors[f"cameras.{part.name}"] for part in fields(Cameras)))
    stored.check()
    splits = {name: list(views) for name, views in dict(scene["splits"]).items()}
    if not all(type(i) is int and 0 <= i < len(stored) for views in splits.values() for i in views):
        raise ValueError(f"scene.splits: expected numbers of its {len(stored)} views")
    if not all(isinstance(text, str) for text in (scene["name"], *scene["paths"])):
        raise ValueError("scene: expected text as its name and paths")
    if len(scene["paths"]) not in (0, len(stored)):
        raise ValueError(f"scene.paths: expected one for each of its {len(stored)} views, or none")
    normalization = Normalization(**norm | {name: tuple(norm[name]) for name in ("offset", "origin") if name in norm})
    corrections = tensors.get(CORRECTIONS)
    if corrections is not None:
        shape = (len(splits.get("train", [])), 6)
        if corrections.shape != shape or not bool(corrections.isfinite().all()):
            raise ValueError(f"{CORRECTIONS}: expected finite numbers of shape {list(shape)}")
    return ViewSet(scene["name"], stored, splits, normalization, scene["paths"], corrections)
