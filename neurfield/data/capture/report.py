# SPDX-License-Identifier: Apache-2.0
"""What is asked of structure from motion and what it answers, as JSON between two processes, and in words."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from neurfield.checks import few
from neurfield.data.capture.photos import Photo

_MANY = 4  # names, or cameras, in a line or in lines for the user


@dataclass(frozen=True)
class SfmJob:
    """Photos whose cameras are to be found.

    Attributes:
        images: folder of the photos, upright PNG and JPEG.
        photos: those to place.
        masks: folder of `NAME.png`, black = ignore.
        camera_model: of options.CAMERA_MODELS.
        work: folder for what is needed meanwhile.
    """

    images: Path
    photos: Sequence[Photo]
    masks: Path
    camera_model: str
    work: Path

    @property
    def file(self) -> Path:
        """Where the job itself is read from."""
        return self.work / "job.json"

    @property
    def parts(self) -> Path:
        """Folder of the sparse models, `0` the largest."""
        return self.work / "parts"

    @property
    def report(self) -> Path:
        return self.work / "report.json"

    def dumps(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def parse(cls, text: str) -> "SfmJob":
        values = json.loads(text)
        photos = [Photo(p["name"], tuple(p["size"]), tuple(p["lens"]), p["has_mask"]) for p in values.pop("photos")]
        model = values.pop("camera_model")
        return cls(photos=photos, camera_model=model, **{name: Path(value) for name, value in values.items()})


@dataclass(frozen=True)
class CaptureReport:
    """The result of `process`.

    Attributes:
        n_photos: that were given, or taken from the video.
        placed: names of the photos whose cameras were found: those of the largest part.
        unplaced: reason by name of the others.
        parts: photos in each part that could not be joined with the others, the largest first.
        cameras: in words, one for each lens.
        n_points: of the sparse cloud.
        error_pixels: mean distance of the points' pictures from the features, in pixels of the photos.
        left_out: photos in each folder below that of the photos, which were not read.
    """

    n_photos: int
    placed: Sequence[str]
    unplaced: Mapping[str, str] = field(default_factory=dict)
    parts: Sequence[int] = ()
    cameras: Sequence[str] = ()
    n_points: int = 0
    error_pixels: float = 0.0
    left_out: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, text: str) -> "CaptureReport":
        return cls(**json.loads(text))

    def lines_of_unplaced(self) -> list[str]:
        """A line for each reason, with some of the photos."""
        lines = []
        for reason in dict.fromkeys(self.unplaced.values()):
            names = [name for name, why in self.unplaced.items() if why == reason]
            some = ", ".join(names[:_MANY]) + (f" and {len(names) - _MANY} more" if len(names) > _MANY else "")
            lines.append(f"{some}: {reason}")
        return lines

    def text(self) -> str:
        """Lines for the user."""
        lines = [
            f"{len(self.placed)} of {self.n_photos} photos placed, {self.n_points} points, mean error "
            f"{self.error_pixels:.2f} pixels",
            *(f"camera: {camera}" for camera in self.cameras[:_MANY]),
            *([f"and {len(self.cameras) - _MANY} more cameras, as sizes differ"] if len(self.cameras) > _MANY else []),
            *(f"not placed: {line}" for line in self.lines_of_unplaced()),
        ]
        if len(self.parts) > 1:
            sizes = ", ".join(map(str, self.parts))
            lines.append(
                f"note: parts of {sizes} photos could not be joined; photos taken between them would do it. "
                "The largest is trained; another one if its folder is named, as OUTPUT/sparse/1"
            )
        if self.left_out:
            n, where = sum(self.left_out.values()), few(list(self.left_out))
            lines.append(f"note: {n} more photos lie in folders below ({where}) and are not read: put all into one")
        return "\n".join(lines)
