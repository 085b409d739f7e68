# SPDX-License-Identifier: Apache-2.0
"""Pictures of a mesh from three sides, by a small software rasteriser: how exported meshes are looked at.

python -m benchmarks.mesh_picture MESH PICTURE.png [--size 512] [--clay]
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import trimesh
from numpy.typing import NDArray
from PIL import Image

from neurfield import ops
from neurfield.cameras.cameras import Cameras
from neurfield.cameras.paths import look_at
from neurfield.geometry import Mesh
from neurfield.geometry.mesh import face_normals
from neurfield.geometry.texture import texels
from neurfield.rendering.color import linear_to_srgb

FINER = 2  # pixels drawn along the sides of one
SUN = np.array([0.45, -0.62, 0.85]) / np.linalg.norm([0.45, -0.62, 0.85])
ANGLES = ((-60.0, 25.0), (30.0, 15.0), (160.0, 50.0))  # azimuth, elevation in degrees


def picture(mesh: Mesh, camera: Cameras, clay: bool = False) -> NDArray[np.float64]:
    """View `[h, w, 3]` over white: its texture or colours, or grey clay in sunlight."""
    camera = camera.resized(float(FINER))
    width, height = camera.sizes[0].tolist()
    vertices = torch.from_numpy(mesh.vertices).float()
    pixel_xy, _ = ops.project(camera, torch.zeros(len(vertices), dtype=torch.int64), vertices)
    distance = (vertices - camera.c2w[0, :, 3]).norm(dim=1).numpy().astype(np.float64)
    faces = mesh.faces[np.isfinite(pixel_xy.numpy()[mesh.faces]).all(axis=(1, 2))]  # what is in front of the camera
    nearest, face = np.full(height * width, np.inf), np.full(height * width, -1)
    weights = np.zeros((height * width, 3))
    for part in texels(pixel_xy.numpy()[faces].astype(np.float64), height, width):
        inverse = part.weights / distance[faces[part.face]]
        away = 1 / inverse.sum(axis=1)
        order = np.argsort(-away, kind="stable")  # the nearest is written last
        order = order[away[order] < nearest[part.index[order]]]
        pixel = part.index[order]
        nearest[pixel], face[pixel], weights[pixel] = away[order], part.face[order], (inverse * away[:, None])[order]
    drawn, hit = np.ones((height * width, 3)), face >= 0

    def interpolated(values: NDArray) -> NDArray:
        return np.einsum("ij,ijk->ik", weights[hit], values[faces[face[hit]]])

    if clay:
        drawn[hit] = _clay(interpolated(mesh.normals))
    elif mesh.texture is not None:
        drawn[hit] = _looked_up(mesh.texture / 255, interpolated(mesh.uv))
    else:
        drawn[hit] = interpolated(mesh.colors / 255)
    return drawn.reshape(height // FINER, FINER, width // FINER, FINER, 3).mean(axis=(1, 3))


def _looked_up(texture: NDArray, uv: NDArray) -> NDArray:
    """The texture `[h, w, 3]` at places `[n, 2]`, between its texels."""
    height, width = texture.shape[:2]
    place = uv * (width, height) - 0.5
    low = np.floor(place).astype(int)
    value = np.zeros((len(uv), 3))
    for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
        share = np.abs(place - low - (1 - dx, 1 - dy)).prod(axis=1)
        column, row = (low[:, 0] + dx).clip(0, width - 1), (low[:, 1] + dy).clip(0, height - 1)
        value += share[:, None] * texture[row, column]
    return value


def _clay(normals: NDArray) -> NDArray:
    light = np.clip(normals @ SUN, 0, 1)[:, None] * 0.6 + 0.25 + 0.1 * normals[:, 2:]
    return light * np.array([0.93, 0.91, 0.88])


def three_sides(mesh: Mesh, size: int = 512, clay: bool = False) -> Image.Image:
    """Three views next to each other, each from three times the radius of the mesh."""
    low, high = mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)
    centre, radius = (low + high) / 2, np.linalg.norm(high - low) / 2
    azimuth, elevation = np.radians(ANGLES).T
    flat = np.cos(elevation)
    directions = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.sin(elevation)], axis=1)
    poses = look_at(torch.from_numpy(centre + 3 * radius * directions).float(), torch.from_numpy(centre).float())
    cameras = Cameras.pinhole(poses, size * 1.45, size, size)
    views = np.concatenate([picture(mesh, cameras[i], clay) for i in range(len(ANGLES))], axis=1)
    return Image.fromarray((views.clip(0, 1) * 255 + 0.5).astype(np.uint8))


def read(path: Path) -> Mesh:
    """A mesh that neurfield wrote, in the frame that its vertices are in."""
    loaded = trimesh.load(path, process=False)
    if isinstance(loaded, trimesh.Scene):
        (loaded,) = loaded.geometry.values()  # without the turn of a GLB's node
    mesh = Mesh(np.asarray(loaded.vertices, np.float64), np.asarray(loaded.faces, np.int64))
    mesh = replace(mesh, normals=face_normals(mesh))
    if getattr(loaded.visual, "uv", None) is not None:
        material = loaded.visual.material
        image = material.image if hasattr(material, "image") else material.baseColorTexture
        uv = (loaded.visual.uv * (1, -1) + (0, 1)).astype(np.float32)
        return replace(mesh, uv=uv, texture=np.asarray(image.convert("RGB")))
    attributes = getattr(loaded.visual, "vertex_attributes", {})
    if "color" in attributes:  # linear, of 16 bits
        colors = torch.from_numpy(np.asarray(attributes["color"], np.float64)[:, :3] / 65535)
        return replace(mesh, colors=(linear_to_srgb(colors).numpy() * 255 + 0.5).astype(np.uint8))
    return replace(mesh, colors=np.asarray(loaded.visual.vertex_colors)[:, :3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mesh", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--clay", action="store_true")
    options = parser.parse_args()
    three_sides(read(options.mesh), options.size, options.clay).save(options.picture)


if __name__ == "__main__":
    main()
