# SPDX-License-Identifier: Apache-2.0
"""`neurfield data make NAME`: a procedural scene as a NeRF-synthetic data folder with its ground truth.

    DATA/transforms_{train,val,test}.json      camera_angle_x; frames with file_path (no extension) and transform_matrix
    DATA/{train,val,test}/r_000.png            RGBA, straight alpha
    DATA/depth/{train,val,test}/r_000.png      if asked for: z-depth of pixel centres in thousandths, 0 = empty
    DATA/ground_truth/mesh.ply                 world frame
    DATA/ground_truth/test/r_000_depth.npy     float32 z-depth of pixel centres, world units, 0 = empty
    DATA/ground_truth/test/r_000_normal.npy    float16, world frame, 0 = empty
    DATA/ground_truth/scene.json               what these are, in words

Frames of scenes that move also have a `time`: every picture is of a moment of its own, neighbours in time are far apart
around the scene, and pictures for tests and validation lie between those for training. The mesh is that of time 0.

Pictures do not depend on the number of processes; the same version gives the same bytes.
"""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from neurfield.cameras.paths import look_at
from neurfield.data.image_files import n_threads
from neurfield.data.procedural import MOVING, NAMES, build
from neurfield.data.procedural.lighting import Light, LightVolume
from neurfield.data.procedural.model import Model
from neurfield.data.procedural.truth import surface_mesh
from neurfield.errors import MachineError, UserError
from neurfield.files import atomic_folder, refuse_existing, save_array
from neurfield.geometry import write_mesh
from neurfield.progress import TextProgress, silent
from neurfield.registry import lookup

CAMERA_ANGLE_X = 0.6911112070083618  # of the NeRF-synthetic set: 36 mm sensor, 50 mm lens
RADIUS = 4.4
TARGET = (0.0, 0.0, -0.12)
GOLDEN_ANGLE = np.pi * (3 - np.sqrt(5))


@dataclass(frozen=True)
class Frame:
    """One picture to be made: its split, its name without extension, its pose `[3, 4]`, and its time if it has one."""

    split: str
    name: str
    c2w: list[list[float]]
    time: float | None = None


def make(
    name: str,
    output: Path,
    views: int = 60,
    resolution: int = 400,
    mesh_resolution: int = 288,
    overwrite: bool = False,
    progress: TextProgress = silent,
    depths: bool = False,
) -> Path:
    """Renders the scene `name` into the folder `output`, which appears complete or not at all.

    Args:
        name: one of procedural.NAMES.
        output: folder to be made.
        views: training views; a sixth as many for tests, a twelfth for validation, at least one of each.
        resolution: width and height of the pictures.
        mesh_resolution: cells of the ground-truth mesh along the longest side.
        overwrite: replace an existing folder.
        progress: called with the fraction done and a text.
        depths: depth maps beside the pictures, as depth cameras give them.

    Raises:
        UserError: unknown name, numbers out of range, a folder that exists.
        MachineError: the disk refuses, a process dies.
    """
    lookup(dict.fromkeys(NAMES), name, "procedural scene")
    for option, value, low, high in (
        ("views", views, 1, 10_000), ("resolution", resolution, 8, 4096), ("mesh resolution", mesh_resolution, 16, 1024)
    ):  # fmt: skip
        if not low <= value <= high:
            raise UserError(f"{option} must be {low} ... {high}, got {value}")
    refuse_existing(output, overwrite, marker="transforms_train.json")
    with atomic_folder(output) as folder:
        _fill(folder, name, Model(build(name)), views, resolution, mesh_resolution, progress, depths)
    return output


def frames_of(views: int, moves: bool = False) -> list[Frame]:
    """Training and validation views spread over the upper hemisphere, test views on a wavy turn around the scene.

    If the scene moves, the times of a split cover 0 ... 1 evenly; those of training views jump about.
    """
    n_test, n_val = max(views // 6, 1), max(views // 12, 1)
    splits = [
        _frames("train", _hemisphere(views, 0.0)),
        _frames("val", _hemisphere(n_val, 1.0)),
        _frames("test", _turn(n_test)),
    ]
    if moves:
        # steps of the golden ratio, then their ranks: evenly spaced times in an order without neighbours
        ranks = np.argsort(np.argsort(np.arange(views) * (GOLDEN_ANGLE / (2 * np.pi)) % 1))
        times = [ranks / max(views - 1, 1), (np.arange(n_val) + 0.5) / n_val, (np.arange(n_test) + 0.5) / n_test]
        splits = [
            [replace(frame, time=float(time)) for frame, time in zip(split, own, strict=True)]
            for split, own in zip(splits, times, strict=True)
        ]
    return [frame for split in splits for frame in split]


def _hemisphere(n: int, turn: float) -> np.ndarray:
    """Directions `[n, 3]`, evenly from 5 degrees below the horizon to 75 above it."""
    z = np.sin(np.radians(-5)) + (np.arange(n) + 0.5) / n * (np.sin(np.radians(75)) - np.sin(np.radians(-5)))
    angle = np.arange(n) * GOLDEN_ANGLE + turn
    return np.stack([np.sqrt(1 - z * z) * np.cos(angle), np.sqrt(1 - z * z) * np.sin(angle), z], axis=1)


def _turn(n: int) -> np.ndarray:
    angle = 2 * np.pi * (np.arange(n) + 0.5) / n
    tilt = np.radians(28 + 16 * np.sin(3 * angle))
    return np.stack([np.cos(tilt) * np.cos(angle), np.cos(tilt) * np.sin(angle), np.sin(tilt)], axis=1)


def _frames(split: str, directions: np.ndarray) -> list[Frame]:
    target = torch.tensor(TARGET, dtype=torch.float64)
    poses = look_at(target + RADIUS * torch.from_numpy(directions), target)
    return [Frame(split, f"r_{i:03d}", pose.tolist()) for i, pose in enumerate(poses)]


def _fill(
    folder: Path,
    name: str,
    model: Model,
    views: int,
    resolution: int,
    mesh_resolution: int,
    progress: TextProgress,
    depths: bool,
) -> None:
    moves = name in MOVING
    frames = frames_of(views, moves)
    for split in ("train", "val", "test"):
        (folder / split).mkdir()
        if depths:
            (folder / "depth" / split).mkdir(parents=True)
        chosen = [frame for frame in frames if frame.split == split]
        content = {
            "camera_angle_x": CAMERA_ANGLE_X,
            "frames": [
                {"file_path": f"./{split}/{frame.name}", "transform_matrix": [*frame.c2w, [0, 0, 0, 1]]}
                | ({} if frame.time is None else {"time": frame.time})
                | ({"depth_file_path": f"./depth/{split}/{frame.name}.png"} if depths else {})
                for frame in chosen
            ],
        }
        (folder / f"transforms_{split}.json").write_text(json.dumps(content, indent=1))
    truth = folder / "ground_truth"
    (truth / "test").mkdir(parents=True)
    progress(0.02, "light")
    if not moves:
        save_array(folder / "light.npy", LightVolume.bake(model, Light()).values)
    _render_all(
        folder, name, frames, resolution, depths, progress, lambda: _write_truth(truth, name, model, mesh_resolution)
    )
    (folder / "light.npy").unlink(missing_ok=True)


def _write_truth(truth: Path, name: str, model: Model, mesh_resolution: int) -> None:
    write_mesh(surface_mesh(model, mesh_resolution), truth / "mesh.ply")
    content = {
        "scene": name,
        "mesh": {"file": "mesh.ply", "frame": "world", "cells_along_longest_side": mesh_resolution}
        | ({"time": 0.0} if name in MOVING else {}),
        "depth": {
            "files": "test/*_depth.npy", "dtype": "float32", "unit": "world", "empty": 0,
            "kind": "z-depth: along the optical axis, at pixel centres",
        },
        "normal": {"files": "test/*_normal.npy", "dtype": "float16", "frame": "world", "empty": 0},
    }  # fmt: skip
    (truth / "scene.json").write_text(json.dumps(content, indent=1))


def _render_all(
    folder: Path,
    name: str,
    frames: list[Frame],
    resolution: int,
    depths: bool,
    progress: TextProgress,
    meanwhile: Callable[[], None],
) -> None:
    """All pictures, shared among processes (the interpreter lock would serialise threads); `meanwhile` runs here."""
    n_workers = min(n_threads(), len(frames))
    focal = 0.5 * resolution / np.tan(0.5 * CAMERA_ANGLE_X)
    workers = []
    with contextlib.ExitStack() as stack:
        for i in range(n_workers):
            job = {"scene": name, "folder": str(folder.resolve()), "size": resolution, "focal": focal, "depths": depths,
                   "frames": [vars(frame) for frame in frames[i::n_workers]]}  # fmt: skip
            path = folder / f"job_{i}.json"
            path.write_text(json.dumps(job))
            log = stack.enter_context(open(folder / f"job_{i}.log", "w"))
            command = [sys.executable, "-m", "neurfield.data.procedural.worker", str(path)]
            process = subprocess.Popen(command, stderr=log)
            stack.callback(process.wait)
            stack.callback(process.kill)
            workers.append(process)
        meanwhile()
        while any(process.poll() is None for process in workers):
            n_done = len(list(folder.glob("*/*.png")))
            progress(0.1 + 0.9 * n_done / len(frames), f"{n_done}/{len(frames)} pictures")
            time.sleep(0.1)
    for i, process in enumerate(workers):
        path = folder / f"job_{i}.log"
        if process.returncode:
            lines = path.read_text().strip().splitlines() or [f"exit code {process.returncode}"]
            raise MachineError(f"a process that renders {name} failed: {lines[-1]}")
        path.unlink()
        path.with_suffix(".json").unlink()
