# SPDX-License-Identifier: Apache-2.0
"""Rendered views as files: a folder with one sub-folder per output, and a frames.json that says what is in them.

OUTPUT/rgb/NAME.png             8 bits, sRGB
OUTPUT/depth/NAME.npy|exr|png   float32 world units, or 16-bit millimetres (world unit = metre); 0 = nothing there
OUTPUT/normal/NAME.png          (n + 1) / 2 in 8 bits, world frame
OUTPUT/accumulation/NAME.png    opacity in 8 bits
OUTPUT/occupancy/NAME.png       8 bits, sRGB
OUTPUT/samples/NAME.png         8 bits, sRGB: dark = none, light = the most of this view
OUTPUT/frames.json              cameras and files; kind, unit and format of the depth
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from neurfield.cameras.cameras import CAMERA_MODELS, Cameras
from neurfield.data.depth_files import write_thousandths
from neurfield.data.pillow import PNG_LEVEL
from neurfield.errors import MachineError, UserError, is_out_of_memory
from neurfield.files import save_array
from neurfield.rendering.color import to_bytes
from neurfield.rendering.outputs import DEPTH_KINDS, picture

FRAMES_FILE = "frames.json"


class FolderWriter:
    """Writes views into a folder that is there; `close` adds frames.json.

    Args:
        folder: where to.
        outputs: names, of neurfield.rendering.renderer.OUTPUTS.
        depth_format: key of DEPTH_WRITERS.
        depth_kind: key of DEPTH_KINDS, told to the reader.
        world: what the frame of the cameras is called.
    """

    def __init__(
        self, folder: Path, outputs: Sequence[str], depth_format: str, depth_kind: str, world: str = "world frame"
    ) -> None:
        self._folder, self._outputs, self._world = folder, outputs, world
        self._frames: list[dict[str, Any]] = []
        self._depth_format, self._depth_kind = depth_format, depth_kind
        for output in outputs:
            (folder / output).mkdir()

    def add(self, name: str, values: dict[str, Tensor], camera: Cameras) -> None:
        """One view; `values` by output name, `camera` a batch of one."""
        files = {output: self._write(output, name, values[output]) for output in self._outputs}
        self._frames.append({"files": files, **_camera_entry(camera)})

    def close(self) -> None:
        content: dict[str, Any] = {"axes": f"OpenGL: x right, y up, looking along -z; {self._world}"}
        if "depth" in self._outputs:
            unit = "millimetre (world unit / 1000)" if self._depth_format == "png" else "world unit"
            kind = DEPTH_KINDS[self._depth_kind]
            content["depth"] = {"kind": kind, "unit": unit, "empty": 0, "format": self._depth_format}
        content["frames"] = self._frames
        (self._folder / FRAMES_FILE).write_text(json.dumps(content, indent=1))

    def _write(self, output: str, name: str, value: Tensor) -> str:
        suffix = self._depth_format if output == "depth" else "png"
        path = self._folder / output / f"{name}.{suffix}"
        if output == "depth":
            DEPTH_WRITERS[suffix](path, value.numpy(), self._depth_kind)
        elif output == "accumulation":
            Image.fromarray(to_bytes(value).numpy()).save(path, compress_level=PNG_LEVEL)
        else:
            Image.fromarray(picture(output, value).numpy()).save(path, compress_level=PNG_LEVEL)
        return f"{output}/{path.name}"


def _camera_entry(camera: Cameras) -> dict[str, Any]:
    fl_x, fl_y, cx, cy = camera.intrinsics[0].tolist()
    width, height = camera.sizes[0].tolist()
    entry = {
        "camera_model": CAMERA_MODELS[int(camera.models[0])], "w": width, "h": height,
        "fl_x": fl_x, "fl_y": fl_y, "cx": cx, "cy": cy, "time": float(camera.times[0]),
        "transform_matrix": [*camera.c2w[0].tolist(), [0.0, 0.0, 0.0, 1.0]],
    }  # fmt: skip
    if camera.distortion.any():
        entry |= dict(zip(("k1", "k2", "k3", "k4", "p1", "p2"), camera.distortion[0].tolist(), strict=True))
    return entry


def _npy(path: Path, depth: np.ndarray, kind: str) -> None:
    save_array(path, depth)


def _exr(path: Path, depth: np.ndarray, kind: str) -> None:
    """One channel Z; header attributes say which depth it is."""
    write_exr(path, {"Z": depth}, {"depthKind": kind, "depthUnit": "world"})


def _png_mm(path: Path, depth: np.ndarray, kind: str) -> None:
    write_thousandths(path, depth)


DEPTH_WRITERS: dict[str, Callable[[Path, np.ndarray, str], None]] = {"npy": _npy, "exr": _exr, "png": _png_mm}


def write_exr(path: Path, channels: Mapping[str, np.ndarray], attributes: Mapping[str, str] | None = None) -> None:
    """Channels `[height, width]` float32 by name, and attributes of the header, as an EXR file.

    Raises:
        UserError: OpenEXR is not installed.
        MachineError: the disk refuses.
    """
    exr = import_openexr()
    header = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage, **(attributes or {})}
    try:
        exr.File(header, {name: np.ascontiguousarray(plane) for name, plane in channels.items()}).write(str(path))
        with exr.File(str(path)) as file:
            file.channels()  # the writer does not notice when the last bytes find no room; the reader does
    except (RuntimeError, ValueError) as error:
        if is_out_of_memory(error):
            raise
        raise MachineError(f"{path.name}: cannot write ({error})") from None


def import_openexr() -> Any:
    """The OpenEXR module; raises UserError with the command that installs it."""
    try:
        import OpenEXR
    except ImportError as error:
        raise UserError("EXR files need OpenEXR, which is not installed: pip install OpenEXR") from error
    return OpenEXR
