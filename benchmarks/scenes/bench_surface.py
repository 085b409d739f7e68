# SPDX-License-Identifier: Apache-2.0
"""Meshes and normals of a surface field and of density fields against the truth of one of the project's scenes.

    neurfield data make lighthouse --output data/lighthouse
    python -m benchmarks.scenes.bench_surface data/lighthouse [--seconds 60 180] [--methods surface ngp-fast] [--table]

With `--table` it stands on one, in opaque images (benchmarks/scenes/surroundings.py), and what is near the table does
not count.

Per method and budget: PSNR of the test views; the angle between normals of test pixels and the true ones; distances, in
per cent of the diagonal of the true mesh, from the mesh (what training views see of it) to the true surface and
from the true surface (all of it, with what no view sees) to the whole mesh.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
import trimesh
from torch import Tensor

import neurfield
from benchmarks.harness import RESULTS, machine
from benchmarks.scenes.surroundings import AABB_SCALE, Array, put_on_a_table
from neurfield import ops

POINTS = 1 << 17
RESOLUTION = 256
MARGIN = 0.04  # of the object's box: what lies so near a table is not compared


def loaded(path: Path) -> trimesh.Trimesh:
    return trimesh.load(path, process=False)


def distances(mesh: trimesh.Trimesh, target: trimesh.Trimesh, within: Array) -> Tensor:
    """From points on a mesh, in a box `within` `[2, 3]`, to the other."""
    points, _ = trimesh.sample.sample_surface(mesh, POINTS, seed=1)
    points = points[((points >= within[0]) & (points <= within[1])).all(axis=1)]
    tree = ops.mesh_tree(torch.tensor(target.vertices).float(), torch.tensor(target.faces).long())
    return ops.mesh_distance(tree, torch.tensor(points).float())


def mesh_figures(run: neurfield.Run, truth: Path, has_table: bool) -> dict[str, float]:
    target = loaded(truth)
    within = np.array([[-np.inf] * 3, [np.inf] * 3])
    if has_table:
        margin = MARGIN * (target.bounds[1] - target.bounds[0])
        within = target.bounds + np.array([[-1, -1, 1], [1, 1, 1]]) * margin
    diagonal = float(np.linalg.norm(target.bounds[1] - target.bounds[0]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mesh.ply"
        run.export_mesh(path, resolution=RESOLUTION, surface="seen")
        there = distances(loaded(path), target, within)
        report = run.export_mesh(path, resolution=RESOLUTION, surface="closed", overwrite=True).report
        back = distances(target, loaded(path), within)
    percent = 100 / diagonal
    return {
        "to_truth": float(there.mean()) * percent, "to_truth_median": float(there.median()) * percent,
        "from_truth": float(back.mean()) * percent, "from_truth_median": float(back.median()) * percent,
        "triangles": report.n_faces,
    }  # fmt: skip


def normal_figures(run: neurfield.Run, truth: Path) -> dict[str, float]:
    """Degrees, over the pixels of all test views in which something is."""
    names = sorted(path.name.removesuffix("_normal.npy") for path in truth.glob("*_normal.npy"))
    angles = []
    for name, view in zip(names, run.views.splits["test"], strict=True):
        normal = run.render(run.cameras[view], outputs=("normal",))["normal"]
        true = torch.from_numpy(np.load(truth / f"{name}_normal.npy").astype(np.float32))
        there = true.norm(dim=2) > 0.5
        cosine = torch.nn.functional.cosine_similarity(normal, true, dim=2)[there]
        angles.append(torch.rad2deg(cosine.clamp(-1, 1).arccos()))
    angle = torch.cat(angles)
    return {"normal_degrees": float(angle.mean()), "normal_degrees_median": float(angle.median())}


def measure(
    scene: neurfield.Scene, truth: Path, method: str, seconds: float, has_table: bool
) -> dict[str, float | str]:
    run = neurfield.train(scene, method, max_seconds=seconds)
    figures = {
        "psnr": run.evaluate("test")["psnr"],
        **normal_figures(run, truth / "test"),
        **mesh_figures(run, truth / "mesh.ply", has_table),
    }
    return {"method": method, "seconds": seconds, **{name: round(value, 4) for name, value in figures.items()}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seconds", type=float, nargs="+", default=(60.0, 180.0))
    parser.add_argument("--methods", nargs="+", default=("surface", "ngp-fast"))
    parser.add_argument("--table", action="store_true", help="opaque images of it on a table, in a dome")
    options = parser.parse_args()
    truth, name = options.data / "ground_truth", f"surface_{options.data.name}"
    with tempfile.TemporaryDirectory() as folder:
        if options.table:
            put_on_a_table(options.data, Path(folder), float(loaded(truth / "mesh.ply").bounds[0, 2]))
            scene, name = neurfield.load_scene(folder, aabb_scale=AABB_SCALE), f"{name}_table"
        else:
            scene = neurfield.load_scene(options.data)
    rows = []
    for seconds in options.seconds:
        for method in options.methods:
            rows.append(measure(scene, truth, method, seconds, options.table))
            print(rows[-1], flush=True)
    protocol = f"one run each; meshes of {RESOLUTION} cells along the longest side, {POINTS} points on each"
    content = {"title": "surfaces", "machine": machine(), "protocol": protocol, "results": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
