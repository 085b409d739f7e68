# SPDX-License-Identifier: Apache-2.0
"""The rest of reading a data set that is one list of photos with poses and lenses."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from neurfield.cameras.poses import Array
from neurfield.data import normalize, splits
from neurfield.data.options import SPLITS, LoadOptions
from neurfield.data.paths import data_name
from neurfield.data.scene import Normalization
from neurfield.data.views import Frame, Manifest, focus_of, inspect, is_cut_out, poses, tan_half_fov
from neurfield.errors import UserError

# (poses [n, 3, 4], half extents of pictures at distance one [n, 2], whether they are cut out) -> the map, and notes
Choose = Callable[[Array, Array, bool], tuple[Normalization, list[str]]]


def posed_photos(
    kind: str,
    frames: Sequence[Frame],
    root: Path,
    options: LoadOptions,
    where: str,
    notes: Sequence[str] = (),
    choose: Choose = normalize.from_poses,
    split_of: Mapping[str, str] | None = None,
) -> Manifest:
    """The data set of these frames; the world stays theirs.

    Args:
        kind: key of FORMATS.
        root: the data folder, resolved; names of frames are below it.
        where: the file of the poses, for messages.
        notes: of the reader, for the user.
        choose: makes the map into unit space where neither the caller nor the file gives one.
        split_of: of each frame, by its name; None: every N-th photo is for testing.

    Raises:
        UserError: see `views.inspect`; or what `choose` knows of the object is no place where numbers reach.
    """
    views, found = inspect(frames, root, options, where)
    if split_of is None:
        parts = splits.every_nth(len(views), options.test_every)
        split = [f"every {options.test_every}th view is for testing"] if options.test_every else []
    else:
        named = [split_of[view.name] for view in views]
        parts, split = {name: [i for i, own in enumerate(named) if own == name] for name in SPLITS}, []
    train = [views[i] for i in parts["train"]] or views
    try:
        chosen, reasons = choose(poses(train), tan_half_fov(train), is_cut_out(train[0]))
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    chosen, reasons = normalize.apply_given(chosen, reasons, focus_of(train), {}, options, where)
    everything = [*found, *notes, *split, *reasons]
    return Manifest(data_name(root), kind, views, parts, chosen, everything).only(options.splits)
