# SPDX-License-Identifier: Apache-2.0
"""Pictures of a mesh from three sides, by a small software rasteriser: how exported meshes are looked at.

python -m benchmarks.mesh_picture MESH.ply PICTURE.png [--size 512] [--clay]
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from neurfield.cameras.paths import look_at
from neurfield.geometry import Mesh

LARGEST = 64  # pixels across; larger triangles are skipped, which a mesh of a field does not have
SUN = np.array([0.45, -0.62, 0.85]) / np.linalg.norm([0.45, -0.62, 0.85])
ANGLES = ((-60.0, 25.0), (30.0, 15.0), (160.0, 50.0))  # azimuth, elevation in degrees


def rasterize(mesh: Mesh, c2w: NDArray, focal: float, size: int, clay: bool = False) -> NDArray[np.uint8]:
    """View `[size, size, 3]` over white; vertex colours, or grey clay in sunlight."""
    local = (mesh.vertices - c2w[:, 3]) @ c2w[:, :3]
    depth = -local[:, 2]
    x, y = size / 2 + focal * local[:, 0] / depth, size / 2 - focal * local[:, 1] / depth
    colors = _clay(mesh) if clay or mesh.colors is None else mesh.colors / 255
    corner_x, corner_y = x[mesh.faces], y[mesh.faces]
    low_x, low_y = np.floor(corner_x.min(axis=1)).astype(int), np.floor(corner_y.min(axis=1)).astype(int)
    extent = np.maximum(corner_x.max(axis=1) - low_x, corner_y.max(axis=1) - low_y)
    area = _cross(corner_x, corner_y, corner_x[:, 0], corner_y[:, 0], 1, 2)
    nearest, picture = np.full(size * size, np.inf), np.ones((size * size, 3))
    reach = 1
    while reach <= LARGEST:
        rows = np.flatnonzero((extent <= reach) & (extent > (reach // 2 if reach > 1 else -1)) & (np.abs(area) > 1e-12))
        for dx in range(reach + 1):
            for dy in range(reach + 1):
                px, py = low_x[rows] + dx, low_y[rows] + dy
                inside = (px >= 0) & (px < size) & (py >= 0) & (py < size)
                some = rows[inside]
                _fill(
                    mesh, some, px[inside], py[inside], corner_x, corner_y, area, depth, colors, nearest, picture, size
                )
        reach *= 2
    return (picture.reshape(size, size, 3).clip(0, 1) * 255 + 0.5).astype(np.uint8)


def _fill(mesh, rows, px, py, corner_x, corner_y, area, depth, colors, nearest, picture, size) -> None:
    """One pixel of each of the triangles `rows`."""
    cx, cy = px + 0.5, py + 0.5
    pairs = ((1, 2), (2, 0), (0, 1))
    weights = np.stack([_cross(corner_x[rows], corner_y[rows], cx, cy, i, j) for i, j in pairs], axis=1)
    weights /= area[rows][:, None]
    covered = (weights >= 0).all(axis=1)
    rows, weights, pixel = rows[covered], weights[covered], (py * size + px)[covered]
    z = (weights * depth[mesh.faces[rows]]).sum(axis=1)
    order = np.argsort(-z, kind="stable")  # the nearest is written last
    order = order[z[order] < nearest[pixel[order]]]
    nearest[pixel[order]] = z[order]
    picture[pixel[order]] = (weights[order][:, :, None] * colors[mesh.faces[rows[order]]]).sum(axis=1)


def _cross(corner_x, corner_y, x, y, i: int, j: int) -> NDArray:
    """Twice the signed area of corners i, j and a point."""
    xi, yi, xj, yj = corner_x[:, i] - x, corner_y[:, i] - y, corner_x[:, j] - x, corner_y[:, j] - y
    return xi * yj - xj * yi


def _clay(mesh: Mesh) -> NDArray:
    light = np.clip(mesh.normals @ SUN, 0, 1)[:, None] * 0.6 + 0.25 + 0.1 * mesh.normals[:, 2:]
    return light * np.array([0.93, 0.91, 0.88])


def three_sides(mesh: Mesh, size: int = 512, clay: bool = False) -> Image.Image:
    """Three views next to each other, each from twice the radius of the mesh."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    centre, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
    views = []
    for azimuth, elevation in np.radians(ANGLES):
        flat = np.cos(elevation)
        direction = np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)])
        pose = look_at(torch.from_numpy(centre + 3 * radius * direction)[None], torch.from_numpy(centre))[0].numpy()
        fine = rasterize(mesh, pose, 2 * size * 1.45, 2 * size, clay)
        views.append(np.asarray(Image.fromarray(fine).resize((size, size), Image.Resampling.BOX)))
    return Image.fromarray(np.concatenate(views, axis=1))


def read_ply(path: Path) -> Mesh:
    """A mesh that neurfield wrote as PLY."""
    header, data = path.read_bytes().split(b"end_header\n", 1)
    lines = [line.split() for line in header.decode().splitlines()]
    counts = [int(line[2]) for line in lines if line[0] == "element"]
    names = [
        (line[2], {"float": "<f4", "uchar": "u1"}[line[1]])
        for line in lines
        if line[0] == "property" and len(line) == 3
    ]
    vertices = np.frombuffer(data, names, counts[0])
    faces = np.frombuffer(data, [("n", "u1"), ("indices", "<i4", 3)], counts[1], vertices.nbytes)["indices"]

    def columns(*keys: str) -> NDArray | None:
        return np.stack([vertices[key] for key in keys], axis=1) if keys[0] in dict(names) else None

    position = columns("x", "y", "z").astype(np.float64)
    return Mesh(position, faces.astype(np.int64), columns("nx", "ny", "nz"), columns("red", "green", "blue"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--clay", action="store_true")
    options = parser.parse_args()
    three_sides(read_ply(options.mesh), options.size, options.clay).save(options.picture)


if __name__ == "__main__":
    main()
