# SPDX-License-Identifier: Apache-2.0
"""Training cameras that are off: what that costs, and what training.refine_cameras gets back.

    python -m benchmarks.scenes.bench_cameras DATA [--degrees 0.5] [--steps 800] [--downscale-factor N] [--name cameras]

Each training camera is turned and shifted at random, by --degrees (root mean square) and as many percent of the median
distance to what the cameras look at; test cameras stay. `ngp-fast` is trained with the cameras as given, with those,
and with those and refinement, and measured on up to 25 test views. The pose errors are what is left after the best
similarity.
"""

import argparse
import dataclasses
import math
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import neurfield
from benchmarks.harness import Row, report
from neurfield.cameras.corrections import corrected
from neurfield.data.scene import Scene

REFINE = "training.refine_cameras=true"
N_TEST = 25


def disturbed(scene: Scene, degrees: float, distance: float) -> Scene:
    train, random = scene.splits["train"], torch.Generator().manual_seed(5)
    turns = torch.randn(len(train), 3, generator=random) * math.radians(degrees) / math.sqrt(3)
    shifts = torch.randn(len(train), 3, generator=random) * distance * degrees / 100 / math.sqrt(3)
    c2w = scene.cameras.c2w.clone()
    c2w[train] = corrected(c2w[train], torch.cat([turns, shifts], dim=1))
    return dataclasses.replace(scene, cameras=dataclasses.replace(scene.cameras, c2w=c2w))


def pose_errors(c2w: Tensor, true: Tensor, distance: float) -> tuple[float, float]:
    """Root mean squares of the angle, in degrees, and of the shift, in percent of `distance`."""
    ours, theirs = c2w.double(), true.double()
    a, b = (pose[:, :, 3] - pose[:, :, 3].mean(dim=0) for pose in (ours, theirs))
    both = torch.einsum("nij,nkj->ik", theirs[:, :, :3], ours[:, :, :3]) + b.T @ a / a.square().sum(dim=1).mean()
    u, _, v = torch.linalg.svd(both)
    turn = u @ torch.diag(torch.tensor([1, 1, torch.det(u @ v)]).double()) @ v
    a = a @ turn.T
    scale = (a * b).sum() / a.square().sum()
    trace = torch.einsum("nij,nij->n", turn @ ours[:, :, :3], theirs[:, :, :3])
    angles = torch.rad2deg(torch.acos(((trace - 1) / 2).clamp(-1, 1)))
    shifts = 100 * (scale * a - b).norm(dim=1) / distance
    return float(angles.square().mean().sqrt()), float(shifts.square().mean().sqrt())


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--degrees", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--downscale-factor", type=int)
    parser.add_argument("--name", default="cameras")
    options = parser.parse_args(argv)
    scene = neurfield.load_scene(options.data, downscale_factor=options.downscale_factor, splits=("train", "test"))
    scene.splits["test"] = scene.splits["test"][:: -(-len(scene.splits["test"]) // N_TEST)]
    train = scene.cameras[scene.splits["train"]]
    true, distance = train.c2w, float(np.median(np.abs(train.focus().depths)))
    off = disturbed(scene, options.degrees, distance)
    rows = []
    for name, data, sets in (("as given", scene, ()), ("off", off, ()), ("refined", off, (REFINE,)),
                             ("as given, refined", scene, (REFINE,))):  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            run = neurfield.train(
                data, "ngp-fast", overrides=sets, max_num_iterations=options.steps, output_dir=folder, device="cpu"
            )
        angle, shift = pose_errors(run.cameras.c2w[scene.splits["train"]], true, distance)
        rows.append(Row(name, run.evaluate("test")["psnr"], "dB", note=f"{angle:.3f} degrees, {shift:.3f} %"))
        print(rows[-1], flush=True)
    title = f"{scene.name}, training cameras off by {options.degrees:g} degrees and percent, {options.steps} steps"
    report(options.name, title, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
