# SPDX-License-Identifier: Apache-2.0
"""Structure from motion with pycolmap: features, matches, cameras. Everything that knows pycolmap is in here.

It runs as a process of its own (`python -m` this module, see cameras.py): pycolmap ends its process when
something is wrong with its data, and cannot be interrupted everywhere.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pycolmap

from neurfield.data.capture import world
from neurfield.data.capture.pairs import all_pairs, likely_pairs
from neurfield.data.capture.report import CaptureReport, SfmJob

ROBUST = "simple_radial"  # the lens with which cameras are found where none is asked for
WORTH = 0.01  # of the error, and pixels: so much less makes more parameters of a lens believable
MAX_IMAGE_SIZE = 1600  # longest side at which features are looked for
FEW_FEATURES = 300  # of a photo: blurred, dark, or of bare walls
FEW_SHARED = 30  # features that two photos share: what COLMAP wants to place one by the other
MAX_ALL_PAIRS = 400  # photos, all of whose pairs are compared where the likely ones were not enough
ENOUGH_PLACED = 0.9  # of the photos
_PAIRS_AT_ONCE = 400
_SEED = 42


def main() -> None:
    """Reads the job in the file that is named, tells `STAGE FRACTION` on stdout, leaves a report and the parts."""
    pycolmap.logging.minloglevel = int(pycolmap.logging.Level.ERROR)
    pycolmap.set_random_seed(_SEED)
    job = SfmJob.parse(Path(sys.argv[1]).read_text(encoding="utf-8"))
    database = job.work / "database.db"
    numbers = _extract(database, job)
    n = len(numbers)
    pairs = likely_pairs(*_features(database, list(numbers.values())))
    _match(database, job.work, list(numbers), pairs)
    parts = _map(database, job.images, job.work / "likely", n)
    rest = all_pairs(n) - pairs
    if rest and n <= MAX_ALL_PAIRS and _n_placed(parts) < ENOUGH_PLACED * n:
        _match(database, job.work, list(numbers), rest)
        parts = max(parts, _map(database, job.images, job.work / "all", n), key=_n_placed)
    for part in parts:
        pycolmap.bundle_adjustment(part, pycolmap.BundleAdjustmentOptions())  # to the end: mapping stops early
    if job.camera_model == "auto":
        parts = [_with_finer_lenses(part, job.work) for part in parts]
    for number, part in enumerate(parts):
        part.transform(pycolmap.Sim3d(world.similarity(_poses(part))))
        folder = job.parts / str(number)
        folder.mkdir(parents=True)
        part.write_binary(folder)
    report = _report(database, [photo.name for photo in job.photos], numbers, parts)
    job.report.write_text(json.dumps(report.as_json()), encoding="utf-8")


def tell(stage: str, fraction: float) -> None:
    print(stage, fraction, flush=True)


def _extract(database: Path, job: SfmJob) -> dict[str, int]:
    """Finds the features of all photos; those of one size and lens get one camera. Gives COLMAP's numbers by name, of
    those that it can read."""
    options = pycolmap.FeatureExtractionOptions()
    options.max_image_size = MAX_IMAGE_SIZE
    groups: dict[Any, list[str]] = {}
    for photo in job.photos:
        groups.setdefault(((photo.size, photo.lens), photo.has_mask), []).append(photo.name)
    numbers: dict[str, int] = {}
    camera_of: dict[Any, int] = {}
    n_done = 0
    for (lens, has_mask), names in groups.items():
        for some in _some(iter(names), 4 * (os.cpu_count() or 1)):
            reader = pycolmap.ImageReaderOptions()
            reader.camera_model = (ROBUST if job.camera_model == "auto" else job.camera_model).upper()
            reader.existing_camera_id = camera_of.get(lens, -1)
            if has_mask:
                reader.mask_path = job.masks
            pycolmap.extract_features(
                database,
                job.images,
                some,
                camera_mode=pycolmap.CameraMode.SINGLE,
                reader_options=reader,
                extraction_options=options,
            )
            with closing(pycolmap.Database.open(database)) as opened:
                images = [image for name in some if (image := opened.read_image_with_name(name)) is not None]
            numbers |= {image.name: image.image_id for image in images}
            if images:
                camera_of[lens] = images[0].camera_id
            n_done += len(some)
            tell("features", n_done / len(job.photos))
    return dict(sorted(numbers.items()))


def _features(database: Path, numbers: Sequence[int]) -> tuple[list[Any], list[Any]]:
    """Of each photo the scales and the descriptors of its features."""
    scales, descriptors = [], []
    with closing(pycolmap.Database.open(database)) as opened:
        for number in numbers:
            points = opened.read_keypoints(number)  # x, y, and a matrix from the feature to the picture
            scales.append(abs(points[:, 2] * points[:, 5] - points[:, 3] * points[:, 4]) ** 0.5)
            descriptors.append(opened.read_descriptors(number).data)
    return scales, descriptors


def _match(database: Path, work: Path, names: Sequence[str], pairs: set[tuple[int, int]]) -> None:
    listed = work / "pairs.txt"
    options = pycolmap.ImportedPairingOptions()
    options.match_list_path = listed
    n_done = 0
    for some in _some(iter(sorted(pairs)), _PAIRS_AT_ONCE):
        listed.write_text("".join(f"{names[i]} {names[j]}\n" for i, j in some), encoding="utf-8")
        pycolmap.match_image_pairs(database, pairing_options=options)
        n_done += len(some)
        tell("matches", n_done / len(pairs))


def _map(database: Path, images: Path, folder: Path, n: int) -> list[pycolmap.Reconstruction]:
    """The parts that were put together, the largest first."""
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = _SEED
    folder.mkdir()
    n_placed = 0

    def placed() -> None:
        nonlocal n_placed
        n_placed += 1
        tell("cameras", min(n_placed / n, 1.0))

    parts = pycolmap.incremental_mapping(
        database, images, folder, options, initial_image_pair_callback=placed, next_image_callback=placed
    )
    found = sorted(parts.values(), key=lambda part: -part.num_reg_images())
    # what was begun again from photos that the largest part has, too, says nothing new
    return [part for i, part in enumerate(found) if i == 0 or not set(_names(part)) <= set(_names(found[0]))]


def _names(part: pycolmap.Reconstruction) -> list[str]:
    return sorted(part.image(number).name for number in part.reg_image_ids())


def _poses(part: pycolmap.Reconstruction) -> np.ndarray:
    """Camera to world `[n, 3, 4]` with OpenGL axes, by name."""
    images = sorted((part.image(number) for number in part.reg_image_ids()), key=lambda image: image.name)
    return np.stack([image.cam_from_world().inverse().matrix() for image in images]) @ np.diag([1.0, -1, -1, 1])


def _with_finer_lenses(part: pycolmap.Reconstruction, work: Path) -> pycolmap.Reconstruction:
    """The part with lenses of OPENCV and free principal points, if they explain it better than its own do.

    With so many parameters from the start few or weak features are explained by wrong lenses; see docs/data.md.
    """
    folder = work / "robust"
    folder.mkdir(exist_ok=True)
    part.write_binary(folder)
    finer = pycolmap.Reconstruction(folder)
    for camera in finer.cameras.values():
        focal, cx, cy, k1 = camera.params
        camera.model = pycolmap.CameraModelId.OPENCV
        camera.params = [focal, focal, cx, cy, k1, 0, 0, 0]
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = True
    pycolmap.bundle_adjustment(finer, options)
    error, old = finer.compute_mean_reprojection_error(), part.compute_mean_reprojection_error()
    return finer if error < old - WORTH * max(old, 1.0) else part


def _n_placed(parts: Sequence[pycolmap.Reconstruction]) -> int:
    return parts[0].num_reg_images() if parts else 0


def _report(
    database: Path, names: Sequence[str], numbers: dict[str, int], parts: Sequence[pycolmap.Reconstruction]
) -> CaptureReport:
    members = [_names(part) for part in parts]
    placed = set(members[0]) if parts else set()
    elsewhere = {name: len(part) for part in members[1:] for name in part}
    most_shared = dict.fromkeys(numbers.values(), 0)
    with closing(pycolmap.Database.open(database)) as opened:
        n_features = {name: opened.num_keypoints_for_image(number) for name, number in numbers.items()}
        for pair, n_shared in zip(*opened.read_two_view_geometry_num_inliers(), strict=True):
            for number in pycolmap.pair_id_to_image_pair(pair):
                most_shared[number] = max(most_shared[number], n_shared)
    unplaced = {
        name: _reason(n_features[name], most_shared[number], elsewhere.get(name))
        for name, number in numbers.items()
        if name not in placed
    } | {name: "COLMAP cannot read it; export it again as JPEG" for name in names if name not in numbers}
    if not parts:
        return CaptureReport(len(names), (), unplaced)
    largest = parts[0]
    return CaptureReport(
        len(names),
        tuple(members[0]),
        unplaced,
        tuple(map(len, members)),
        tuple(_words(camera) for _, camera in sorted(largest.cameras.items())),
        largest.num_points3D(),
        largest.compute_mean_reprojection_error(),
    )


def _reason(n_features: int, most_shared: int, n_elsewhere: int | None) -> str:
    if n_elsewhere:
        return f"in another part, of {n_elsewhere} photos"
    if n_features < FEW_FEATURES:
        return "few features, as blurred or dark photos and bare walls have"
    return "shares nothing with another photo" if most_shared < FEW_SHARED else "shares too little with the others"


def _words(camera: pycolmap.Camera) -> str:
    focal = camera.mean_focal_length()
    return f"{camera.width} x {camera.height}, {camera.model.name}, focal length {focal:.0f} pixels"


def _some(items: Iterator[Any], n: int) -> Iterator[list[Any]]:
    while some := list(islice(items, n)):
        yield some


if __name__ == "__main__":
    main()
