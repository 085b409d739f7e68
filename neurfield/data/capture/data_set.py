# SPDX-License-Identifier: Apache-2.0
"""From a folder of photos, or a video, to a data set with cameras that `load_scene` reads."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from neurfield.data.capture import photos as photo_files
from neurfield.data.capture import seen, video
from neurfield.data.capture.cameras import StageProgress, find_cameras, require_pycolmap
from neurfield.data.capture.options import ProcessOptions
from neurfield.data.capture.report import CaptureReport, SfmJob
from neurfield.data.signals.video import DEMUXERS, detect
from neurfield.errors import UserError
from neurfield.files import atomic_folder, check_readable, refuse_existing

MARKER = "process.json"  # in a folder that `process` has made


def process(
    source: Path | str,
    output: Path | str,
    options: ProcessOptions | None = None,
    overwrite: bool = False,
    progress: StageProgress = lambda stage, fraction: None,
) -> CaptureReport:
    """Finds the cameras of photos by structure from motion (pycolmap) and writes a data set in COLMAP's layout.

    The photos lie upright in `images/`, masks in `masks/`, the sparse model in `sparse/0`; further parts that could not
    be joined in `sparse/1`, ... A report lies in `process.json`. Photos alone tell neither unit nor axes of the world:
    world.similarity chooses them.

    Args:
        source: a folder of photos (PNG, JPEG, WebP, TIFF, BMP, HEIC), with `masks/NAME[.EXT].png` (black = ignore) if
            there are any; or a video.
        output: folder to be made; it appears complete or not at all.
        options: see there.
        overwrite: replace a folder that this function has made.
        progress: told the stage ("photos", "features", "matches", "cameras") and how far it is, 0 ... 1.

    Raises:
        UserError: no photos, or such as may not be read, a broken one, pycolmap missing, an output that exists, or no
            cameras found.
    """
    source, output, options = Path(source), Path(output), options or ProcessOptions()
    check_readable(source)
    refuse_existing(output, overwrite, MARKER)
    if source.resolve().is_relative_to(output.resolve()):
        raise UserError(f"{source} lies in {output}, which would be replaced; choose another --output")
    require_pycolmap()
    is_video = source.is_file() and detect(source)
    if not is_video:
        if not source.is_dir():
            raise UserError(f"{source}: expected a folder of photos or a video ({', '.join(DEMUXERS)})")
        photo_files.find(source)
    with atomic_folder(output) as folder:
        images, masks, work = folder / "images", folder / "masks", folder / "work"
        images.mkdir()
        work.mkdir()  # here and not in the system's folder, which may be small
        if is_video:
            photos = video.take(
                source, images, options.num_frames_target, options.max_megapixels, lambda done: progress("photos", done)
            )
        else:
            photos = photo_files.prepare(
                source, images, masks, options.max_megapixels, lambda done: progress("photos", done)
            )
        if len(photos) < 3:
            raise UserError(f"{source}: at least 3 photos are needed, better 30 to 150; found {len(photos)}")
        seen_in = work / "masks"
        job = SfmJob(images, seen.write_masks(photos, images, masks, seen_in), seen_in, options.camera_model, work)
        report = find_cameras(job, progress)
        if not is_video:
            report = replace(report, left_out=photo_files.left_out(source))
        job.parts.rename(folder / "sparse")
        shutil.rmtree(work)
        for power in range(1, options.num_downscales + 1):
            smaller = folder / f"images_{2**power}"
            smaller.mkdir()
            photo_files.shrink(images, smaller, [photo.name for photo in photos], 2**power)
        facts = {"source": str(source.resolve()), "options": asdict(options), **report.as_json()}
        (folder / MARKER).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return report
