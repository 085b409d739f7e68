# SPDX-License-Identifier: Apache-2.0
"""Depth maps: what learning from them gives, for few and for many views, from exact maps and from a phone's.

    neurfield data make lighthouse --views 60 --resolution 400 --depth --output DATA
    python -m benchmarks.scenes.bench_depth DATA [--views 8 20 60] [--steps 600] [--name depth]

`ngp-fast` is trained on so many of the training views, evenly chosen, without the hull of their masks, which photos of
places do not have, either. "noisy": maps of a quarter of the width, numbers off by 1 % (root mean square), and one in
twenty by up to a half. "off by 2 %": all numbers of coarse maps too large by that, as where a scale is not right. PSNR
and the error of the depth (mean of |depth - known| / known, of exact maps) are of the test views.
"""

import argparse
import dataclasses
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

import neurfield
from benchmarks.harness import Row, report
from neurfield.data.scene import Scene

COARSER = 4


def coarse(depth: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """A changed map of a part of the width, as large as before."""
    size = [n // COARSER for n in depth.shape]
    small = torch.nn.functional.interpolate(depth[None, None], size, mode="nearest")[0, 0]
    return torch.nn.functional.interpolate(change(small)[None, None], depth.shape, mode="nearest")[0, 0]


def noisy(depth: Tensor, random: torch.Generator) -> Tensor:
    def change(small: Tensor) -> Tensor:
        off = small * (1 + 0.01 * torch.randn(small.shape, generator=random))
        wrong = small * (0.5 + torch.rand(small.shape, generator=random))
        return off.where(torch.rand(small.shape, generator=random) > 0.05, wrong)

    return coarse(depth, change)


KINDS: dict[str, Callable[[Tensor, torch.Generator], Tensor] | None] = {
    "none": None,
    "exact": lambda depth, random: depth,
    "noisy": noisy,
    "off by 2 %": lambda depth, random: coarse(depth, lambda small: 1.02 * small),
}


def with_maps(scene: Scene, n_views: int, change: Callable[[Tensor, torch.Generator], Tensor] | None) -> Scene:
    """Trained on `n_views`, of which the maps are changed, None: taken away; those of the test views stay."""
    train, random = scene.splits["train"], torch.Generator().manual_seed(3)
    chosen = [train[i * (len(train) - 1) // max(n_views - 1, 1)] for i in range(n_views)]
    assert scene.depths is not None, "the scene has no depth maps: data make --depth"
    depths = list(scene.depths)
    for view in chosen:
        depth = depths[view]
        assert depth is not None
        depths[view] = None if change is None else change(depth, random)
    return dataclasses.replace(scene, depths=depths, splits=scene.splits | {"train": chosen})


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--views", type=int, nargs="+", default=[8, 20, 60])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--name", default="depth")
    options = parser.parse_args(argv)
    scene = neurfield.load_scene(options.data, splits=("train", "test"))
    rows = []
    for n_views in options.views:
        for kind, change in KINDS.items():
            with tempfile.TemporaryDirectory() as folder:
                run = neurfield.train(
                    with_maps(scene, n_views, change), "ngp-fast", overrides=("sampler.hull=false",),
                    max_num_iterations=options.steps, output_dir=folder, device="cpu",
                )  # fmt: skip
                found = run.evaluate("test")
            note = f"error of the depth {100 * found['depth_abs_rel']:.3f} %"
            rows.append(Row(f"{n_views} views, maps: {kind}", found["psnr"], "dB", note=note))
            print(rows[-1], flush=True)
    report(options.name, f"{scene.name}, with depth maps, {options.steps} steps", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
