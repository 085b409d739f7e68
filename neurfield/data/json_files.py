# SPDX-License-Identifier: Apache-2.0
"""JSON files of cameras as Python values; `transforms*.json` as checked ones: frames with rigid poses and lenses."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from neurfield.cameras.poses import Array, rigid_pose
from neurfield.checks import is_number, shown
from neurfield.data import lens
from neurfield.data.views import MILLIMETRE, Frame
from neurfield.errors import UserError
from neurfield.files import read_bytes

# A frame takes about 1 kB: this is room for a quarter of a million views.
MAX_JSON_BYTES = 256 << 20
MAX_SHOWN = 200  # characters of a path that a message repeats
# depth maps of frames, nerfstudio's and instant-ngp's, and the key of the file that says their unit
DEPTH_KEYS = {"depth_file_path": "depth_unit_scale_factor", "depth_path": "integer_depth_scale"}


def read(path: Path) -> dict[str, Any]:
    """The top level of a transforms file.

    Raises:
        UserError: as `content_of`, or without a list of frames.
    """
    content = content_of(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise UserError(f"{path}: not a transforms file; expected an object with a list of 'frames'")
    return content


def content_of(path: Path) -> Any:
    """What a file of cameras holds.

    Raises:
        UserError: unreadable, too large, no JSON, nested too deeply.
    """
    try:
        return json.loads(read_bytes(path, MAX_JSON_BYTES).decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a JSON file (its bytes are no UTF-8 text)") from None
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from None
    except (RecursionError, ValueError) as error:
        raise UserError(
            f"{path}: not usable JSON ({type(error).__name__}: nested too deeply or a number too long)"
        ) from None


def numbers(given: Any, shape: tuple[int, ...], what: str) -> Array:
    """Finite numbers of a file, nested as `shape` says, () for one alone; float64.

    Raises:
        UserError: they are something else; `what` begins the message.
    """
    found = np.array(given, dtype=object)
    if found.shape != shape or not all(map(is_number, found.flat)):
        wanted = f"finite numbers {list(shape)}" if shape else "a finite number"
        raise UserError(f"{what} must be {wanted}, got {shown(given)}")
    return found.astype(np.float64)


def frames(content: Mapping[str, Any], path: Path) -> list[Frame]:
    """The frames in file order.

    Raises:
        UserError: naming file, frame and what was found, for the first one that cannot be used.
    """
    found = [_frame(entry, content, f"{path}: frame {i}") for i, entry in enumerate(content["frames"])]
    untimed = [frame for frame, entry in zip(found, content["frames"], strict=True) if entry.get("time") is None]
    if 0 < len(untimed) < len(found):
        raise UserError(
            f"{untimed[0].where}: no time, which {len(found) - len(untimed)} of the {len(found)} frames have; "
            "give all frames one, or none"
        )
    return found


def _frame(entry: Any, shared: Mapping[str, Any], where: str) -> Frame:
    if not isinstance(entry, dict):
        raise UserError(f"{where}: expected an object with file_path and transform_matrix, got {type(entry).__name__}")
    name = entry.get("file_path")
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: file_path must be the path of an image, got {shown(name)}")
    where = f"{where} ({name if len(name) <= MAX_SHOWN else shown(name)})"
    if "transform_matrix" not in entry:
        raise UserError(
            f"{where}: no transform_matrix (poses at the start and end of a rolling shutter are not supported)"
        )
    try:
        pose = rigid_pose(entry["transform_matrix"])
    except ValueError as error:
        raise UserError(f"{where}: transform_matrix: {error}") from None
    time = 0.0 if entry.get("time") is None else entry["time"]
    if not is_number(time) or not 0 <= time <= 1:
        raise UserError(f"{where}: time must be a number from 0 to 1, got {shown(time)}")
    mask = entry.get("mask_path")
    if mask is not None and not isinstance(mask, str):
        raise UserError(f"{where}: mask_path must be the path of an image, got {shown(mask)}")
    return Frame(name, where, pose, lens.parse(entry, shared, where), float(time), mask, *_depth(entry, shared, where))


def _depth(entry: Mapping[str, Any], shared: Mapping[str, Any], where: str) -> tuple[str | None, float]:
    """Name of the depth map, and world units per unit of it, as nerfstudio and instant-ngp say them."""
    for key, unit_key in DEPTH_KEYS.items():
        name, unit = entry.get(key), shared.get(unit_key, MILLIMETRE)
        if name is None or name == "" or (key == "depth_path" and shared.get("enable_depth_loading") is False):
            continue
        if not isinstance(name, str):
            raise UserError(f"{where}: {key} must be the path of a depth map, got {shown(name)}")
        if not is_number(unit) or not unit > 0:
            raise UserError(f"{where}: {unit_key} must be a positive number, got {shown(unit)}")
        return name, float(unit)
    return None, MILLIMETRE
