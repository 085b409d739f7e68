# SPDX-License-Identifier: Apache-2.0
"""One process of `make`: reads a job file and writes its pictures, and the ground truth of test views."""

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from neurfield.data.procedural import SCENES
from neurfield.data.procedural.imaging import Picture
from neurfield.data.procedural.lighting import Light, LightVolume
from neurfield.data.procedural.model import Model
from neurfield.data.procedural.shapes import f32


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(job["folder"])
    model = Model(SCENES[job["scene"]]())
    picture = Picture(model, LightVolume(model, Light(), np.load(folder / "light.npy")))
    for frame in job["frames"]:
        view = picture.render(f32(frame["c2w"]), job["focal"], job["size"])
        if frame["split"] == "test":
            truth = folder / "ground_truth" / "test"
            np.save(truth / f"{frame['name']}_depth.npy", view.depth)
            np.save(truth / f"{frame['name']}_normal.npy", view.normal.astype(np.float16))
        Image.fromarray(view.rgba).save(folder / frame["split"] / f"{frame['name']}.png", compress_level=4)


if __name__ == "__main__":
    main()
