# SPDX-License-Identifier: Apache-2.0
"""How photos become a data set; the command line reads this without importing anything heavy."""

from dataclasses import dataclass

from neurfield.errors import UserError

# COLMAP's, in small letters.
CAMERA_MODELS = ("auto", "simple_pinhole", "pinhole", "simple_radial", "radial", "opencv", "opencv_fisheye")


@dataclass(frozen=True)
class ProcessOptions:
    """How photos become a data set.

    Raises:
        UserError: a model that is none, or a number out of its range.
    """

    num_frames_target: int = 100
    """Of a video: pictures to take, of each of its equal parts the sharpest."""
    camera_model: str = "auto"
    """What the lens does: simple_pinhole, pinhole, simple_radial, radial, opencv, opencv_fisheye, as COLMAP calls them.
    auto: simple_radial, and at the end opencv with a free principal point, if that explains the photos better."""
    num_downscales: int = 0
    """Also write the photos 2, 4, ... times smaller (images_2, images_4, ...): training with --downscale-factor then
    reads less."""
    max_megapixels: float = 64.0
    """Refuse larger photos, as training does."""

    def __post_init__(self) -> None:
        if self.camera_model not in CAMERA_MODELS:
            raise UserError(f"--camera-model must be one of {', '.join(CAMERA_MODELS)}, got {self.camera_model!r}")
        if not 3 <= self.num_frames_target <= 10_000:
            raise UserError(f"--num-frames-target must be 3 ... 10000, got {self.num_frames_target}")
        if not 0 <= self.num_downscales <= 5:
            raise UserError(f"--num-downscales must be 0 ... 5, got {self.num_downscales}")
        if not self.max_megapixels > 0:
            raise UserError(f"--max-megapixels must be above 0, got {self.max_megapixels:g}")
