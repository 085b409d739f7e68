# SPDX-License-Identifier: Apache-2.0
"""`neurfield process`: a data set with cameras, from photos or a video."""

import shlex
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from neurfield.cli._console import say
from neurfield.cli._stages import Stages
from neurfield.data.capture.options import ProcessOptions

if TYPE_CHECKING:
    from neurfield.data.views import Manifest

LONGEST_SIDE = 1000  # pixels of a photo, of which a short training learns most


@dataclass(frozen=True)
class ProcessCommandOptions:
    """Finds out where photos were taken from (structure from motion), and makes a data set of them."""

    photos: tyro.conf.Positional[Path]
    """Folder of photos (PNG, JPEG, WebP, TIFF, BMP, HEIC), or a video."""
    output: Path | None = None
    """Folder to be made; default: data/NAME."""
    overwrite: bool = False
    """Replace a folder that this command has made."""
    process: Annotated[ProcessOptions, tyro.conf.OmitArgPrefixes] = field(default_factory=ProcessOptions)
    """How photos become a data set."""


def run(options: ProcessCommandOptions) -> int:
    from neurfield.data.capture import process
    from neurfield.data.load import read_manifest
    from neurfield.data.options import LoadOptions

    source = options.photos.resolve()
    output = options.output or Path("data") / (source.name if source.is_dir() else source.stem)
    with ExitStack() as stack:
        report = process(options.photos, output, options.process, options.overwrite, Stages(stack).update)
    say(report.text())
    say(f"{len(report.placed)} photos with their cameras are in {output}")
    limit = options.process.max_megapixels
    flags = _smaller(read_manifest(output, LoadOptions(max_megapixels=limit)))
    if limit != LoadOptions().max_megapixels:
        flags += f" --max-megapixels {limit:g}"
    say(f"train it: neurfield train {shlex.quote(str(output))}{flags}")
    return 0


def _smaller(manifest: "Manifest") -> str:
    longest = max(max(view.intrinsics.width, view.intrinsics.height) for view in manifest.views)
    factor = 1
    while longest / factor > 1.5 * LONGEST_SIDE:
        factor *= 2
    return f" --downscale-factor {factor}" if factor > 1 else ""
