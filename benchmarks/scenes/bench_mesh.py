# SPDX-License-Identifier: Apache-2.0
"""How much of a field's views its meshes keep: colours in the vertices, fewer triangles, a texture.

    python -m benchmarks.scenes.bench_mesh RUN [--resolution 256]

Each mesh is drawn in the test views by benchmarks.mesh_picture, four rays a pixel over white, and measured against the
images.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import torch

import neurfield
from benchmarks.harness import RESULTS, machine
from benchmarks.mesh_picture import picture, read
from neurfield.metrics.psnr import psnr
from neurfield.metrics.ssim import ssim
from neurfield.rendering.color import BACKGROUNDS, over_background

VARIANTS: dict[str, dict[str, int]] = {
    "all triangles": {},
    "50 000 triangles": {"max_triangles": 50_000},
    "50 000, texture of 2048": {"texture": 2048},
    "20 000, texture of 2048": {"max_triangles": 20_000, "texture": 2048},
    "200 000, texture of 4096": {"max_triangles": 200_000, "texture": 4096},
}


def measure(run: neurfield.Run, scene: neurfield.Scene, name: str, resolution: int) -> dict[str, float | str]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.glb"
        start = time.perf_counter()
        report = run.export_mesh(path, resolution=resolution, **VARIANTS[name]).report
        seconds, size, mesh = time.perf_counter() - start, path.stat().st_size, read(path)
    white, values = torch.tensor(BACKGROUNDS["white"]), []
    for view in scene.views("test"):
        target = over_background(scene.images[view], white)
        drawn = torch.from_numpy(picture(mesh, scene.cameras[view])).float()
        values.append((psnr(drawn, target), ssim(drawn, target)))
    means = torch.tensor(values).mean(dim=0).tolist()
    return {
        "mesh": name, "triangles": report.n_faces, "megabytes": round(size / 1e6, 2), "seconds": round(seconds, 1),
        "psnr": round(means[0], 3), "ssim": round(means[1], 4), "closed": report.watertight,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--resolution", type=int, default=256)
    options = parser.parse_args()
    run = neurfield.load(options.run)
    scene = neurfield.load_scene(run.look_at_data().source)
    rows = [{"mesh": "the field itself", "psnr": round(run.evaluate("test")["psnr"], 3)}]
    for name in VARIANTS:
        rows.append(measure(run, scene, name, options.resolution))
        print(rows[-1], flush=True)
    protocol = f"one run; meshes of {options.resolution} cells, GLB; drawn in the test views with 4 rays a pixel"
    content = {"title": "meshes", "machine": machine(), "protocol": protocol, "results": rows}
    (RESULTS / f"mesh_{run.views.name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
