# SPDX-License-Identifier: Apache-2.0
"""Which views are for training and which for testing, when one list of views holds them all."""

from collections.abc import Sequence

from neurfield.checks import shown
from neurfield.data.paths import same_name
from neurfield.errors import UserError


def every_nth(n_views: int, nth: int) -> dict[str, list[int]]:
    """Views 0, N, 2N, ... of the file's order are for testing; a single view serves both, N = 0 trains on all."""
    test = list(range(0, n_views, nth)) if nth else []
    train = [i for i in range(n_views) if not nth or i % nth] or test
    return {"train": train, "val": [], "test": test}


def from_names(
    names: Sequence[str], lists: dict[str, Sequence[str]], where: str
) -> tuple[dict[str, list[int]], list[str]]:
    """Splits by the lists `train_filenames` ... of nerfstudio; views in none of them are left out.

    Returns:
        The splits, and names that are listed but have no view (missing images, for the notes).

    Raises:
        UserError: no listed name has a view.
    """
    index = {same_name(name): i for i, name in enumerate(names)}
    splits: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    unknown = []
    for split, listed in lists.items():
        for name in listed:
            found = index.get(same_name(name))
            if found is None:
                unknown.append(name)
            else:
                splits[split].append(found)
    if not any(splits.values()):
        raise UserError(
            f"{where}: no file of its train/val/test_filenames is one of its frames ({shown(unknown[0])}, ...)"
        )
    return splits, unknown
