# SPDX-License-Identifier: Apache-2.0
"""One process of `make`: reads a job file and writes its pictures, and the ground truth of test views.

A scene that moves is built and lit anew for every picture.
"""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from neurfield.data import procedural
from neurfield.data.depth_files import write_thousandths
from neurfield.data.pillow import PNG_LEVEL
from neurfield.data.procedural.imaging import Picture
from neurfield.data.procedural.lighting import MOVING_RESOLUTION, Light, LightVolume
from neurfield.data.procedural.model import Model
from neurfield.data.procedural.shapes import f32
from neurfield.files import save_array


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    name, picture = job["scene"], None
    for frame in job["frames"]:
        if picture is None or frame["time"] is not None:
            picture = _picture(name, frame["time"], folder)
        view = picture.render(f32(frame["c2w"]), job["focal"], job["size"])
        if frame["split"] == "test":
            truth = folder / "ground_truth" / "test"
            save_array(truth / f"{frame['name']}_depth.npy", view.depth)
            save_array(truth / f"{frame['name']}_normal.npy", view.normal.astype(np.float16))
        if job["depths"]:
            write_thousandths(folder / "depth" / frame["split"] / f"{frame['name']}.png", view.depth)
        Image.fromarray(view.rgba).save(folder / frame["split"] / f"{frame['name']}.png", compress_level=PNG_LEVEL)


def _picture(name: str, time: float | None, folder: Path) -> Picture:
    """A scene at a time, or one that does not move with the light that was baked for all processes."""
    model = Model(procedural.build(name, time or 0.0))
    if time is None:
        return Picture(model, LightVolume(model, Light(), np.load(folder / "light.npy")))
    return Picture(model, LightVolume.bake(model, Light(), MOVING_RESOLUTION))


if __name__ == "__main__":
    main()
