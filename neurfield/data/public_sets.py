# SPDX-License-Identifier: Apache-2.0
"""Public data sets by name: where their authors keep them. Licences are theirs; read the page before you use one.

`sha256` is None where the authors publish no hash: then the hash of the first download is printed, kept beside the data
and expected of later ones. No hash in this table was taken from elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class PublicSet:
    """One download.

    Attributes:
        url: of an archive, or of a single file.
        page: for people: licence, description, and the current address if this one has moved.
        about: what is in it, in a few words.
        sha256: of the file, if its authors publish it.
        file: name to keep a single file under; None for archives, which are unpacked.
    """

    url: str
    page: str
    about: str
    sha256: str | None = None
    file: str | None = None


def _google_drive(key: str) -> str:
    return f"https://drive.usercontent.google.com/download?id={key}&export=download&confirm=t"


_NERF_PAGE = "https://www.matthewtancik.com/nerf"
_NERF_FILES = "https://cseweb.ucsd.edu/~viscomp/projects/LF/papers/ECCV20/nerf"
_REFRAW = "https://storage.googleapis.com/gresearch/refraw360"

PUBLIC_SETS: Mapping[str, PublicSet] = MappingProxyType(
    {
        "nerf-synthetic": PublicSet(
            _google_drive("18JxhpWD-4ZmuFKLzKlAw-w5PpzZxXOcG"),
            _NERF_PAGE,
            "the 8 Blender scenes of NeRF, 800 x 800 RGBA",
        ),
        "nerf-llff": PublicSet(
            _google_drive("16VnMcF1KJYxN9QId6TClMsZRahHNMW5g"),
            _NERF_PAGE,
            "8 forward-facing captures with COLMAP poses",
        ),
        "nerf-example": PublicSet(
            f"{_NERF_FILES}/nerf_example_data.zip",
            "https://github.com/bmild/nerf",
            "lego and fern, the examples of NeRF",
        ),
        "tiny-nerf": PublicSet(
            f"{_NERF_FILES}/tiny_nerf_data.npz",
            "https://github.com/bmild/nerf",
            "106 views of lego, 100 x 100",
            file="tiny_nerf_data.npz",
        ),
        "dnerf": PublicSet(
            "https://www.dropbox.com/s/0bf6fl0ye2vz3vr/data.zip?dl=1",
            "https://github.com/albertpumarola/D-NeRF",
            "8 moving Blender scenes with times",
        ),
        "mipnerf360": PublicSet(
            f"{_REFRAW}/360_v2.zip", "https://jonbarron.info/mipnerf360", "7 captures all around, COLMAP poses, 12 GB"
        ),
        "mipnerf360-extra": PublicSet(
            f"{_REFRAW}/360_extra_scenes.zip", "https://jonbarron.info/mipnerf360", "flowers and treehill, COLMAP poses"
        ),
    }
)
