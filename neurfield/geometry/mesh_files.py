# SPDX-License-Identifier: Apache-2.0
"""Meshes in files: binary PLY, OBJ, GLB (glTF 2.0), with colours of vertices or, but for PLY, a texture; binary STL,
which has triangles alone.

The metadata of the mesh goes into each but STL.
"""

import io
import json
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from neurfield.errors import UserError
from neurfield.files import write_together
from neurfield.geometry.mesh import Mesh
from neurfield.registry import lookup
from neurfield.srgb import to_linear

SHAPE_ALONE = (".stl",)  # formats without colours
FLOAT, UINT16, UINT32 = 5126, 5123, 5125  # component types of glTF
LINEAR, LINEAR_MIPMAP_LINEAR, CLAMP = 9729, 9987, 33071  # filters and wrapping of glTF


def files_of_mesh(path: Path, has_texture: bool) -> list[Path]:
    """What write_mesh makes: the file and, of an OBJ with a texture, the two that it leads to.

    Raises:
        UserError: unknown extension, or a texture in a format that holds none.
    """
    suffix = path.suffix.lower()
    check_format(path)
    if has_texture and suffix in (".ply", *SHAPE_ALONE):
        kind = suffix[1:].upper()
        raise UserError(f"{path.name}: {kind} holds no texture; write .glb or .obj, or leave --texture out")
    name = re.sub(r"\s", "_", path.stem)  # readers of OBJ end a name at a blank
    beside = [".mtl", ".png"] if has_texture and suffix == ".obj" else []
    return [path, *(path.with_name(f"{name}{end}") for end in beside)]


def check_format(path: Path) -> None:
    """Raises UserError for a name whose end is that of no format of meshes."""
    if not path.suffix:
        raise UserError(f"{path}: the end of the name says the format of a mesh; add one of {', '.join(WRITERS)}")
    lookup(WRITERS, path.suffix.lower(), "mesh format")


def write_mesh(mesh: Mesh, path: Path) -> None:
    """Writes a mesh in the format of the extension; all of its files appear complete or none.

    Raises:
        UserError: see files_of_mesh.
        MachineError: the disk refuses.
    """
    paths = files_of_mesh(path, mesh.texture is not None)
    name = paths[-1].stem
    contents = [WRITERS[path.suffix.lower()](mesh, name)]
    if len(paths) > 1 and mesh.texture is not None:
        contents += [_mtl(name), _png(mesh.texture)]
    write_together(list(zip(paths, contents, strict=True)))


def _png(texture: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(texture).save(file, "PNG")
    return file.getvalue()


def _ply(mesh: Mesh, name: str) -> bytes:
    columns = [("x", "<f4", "float"), ("y", "<f4", "float"), ("z", "<f4", "float")]
    values: list[NDArray] = [mesh.vertices]
    if mesh.normals is not None:
        columns += [("nx", "<f4", "float"), ("ny", "<f4", "float"), ("nz", "<f4", "float")]
        values.append(mesh.normals)
    if mesh.colors is not None:
        columns += [("red", "u1", "uchar"), ("green", "u1", "uchar"), ("blue", "u1", "uchar")]
        values.append(mesh.colors)
    vertices = np.empty(len(mesh.vertices), [(name, dtype) for name, dtype, _ in columns])
    for (name, _, _), value in zip(columns, (v[:, i] for v in values for i in range(3)), strict=True):
        vertices[name] = value
    faces = np.empty(len(mesh.faces), [("n", "u1"), ("indices", "<i4", 3)])
    faces["n"], faces["indices"] = 3, mesh.faces
    header = [
        "ply", "format binary_little_endian 1.0", f"comment neurfield {json.dumps(mesh.metadata)}",
        f"element vertex {len(vertices)}", *(f"property {kind} {name}" for name, _, kind in columns),
        f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header\n",
    ]  # fmt: skip
    return "\n".join(header).encode() + vertices.tobytes() + faces.tobytes()


def _stl(mesh: Mesh, name: str) -> bytes:
    """What a triangle's normal is follows from its corners; the head is 80 bytes that say nothing."""
    triangles = np.zeros(len(mesh.faces), [("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
    corners = mesh.vertices[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    triangles["normal"] = across / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-20)
    triangles["corners"] = corners
    return b"neurfield".ljust(80) + struct.pack("<I", len(triangles)) + triangles.tobytes()


def _obj(mesh: Mesh, name: str) -> bytes:
    """Colours follow the position of a vertex, in 0 ... 1, as MeshLab and Blender read them."""
    vertices = mesh.vertices if mesh.colors is None else np.concatenate([mesh.vertices, mesh.colors / 255], axis=1)
    lines = [f"# neurfield {json.dumps(mesh.metadata)}\n"]
    if mesh.texture is not None:
        lines.append(f"mtllib {name}.mtl\nusemtl field\n")
    lines.append(_rows("v %.7g %.7g %.7g" + (" %.4g %.4g %.4g" if mesh.colors is not None else ""), vertices))
    corner = "%d"
    if mesh.uv is not None:
        lines.append(_rows("vt %.7g %.7g", mesh.uv * (1, -1) + (0, 1)))  # v goes up
        corner += "/%d"
    if mesh.normals is not None:
        lines.append(_rows("vn %.5g %.5g %.5g", mesh.normals))
        corner += "//%d" if mesh.uv is None else "/%d"
    lines.append(_rows("f" + f" {corner}" * 3, np.repeat(mesh.faces + 1, corner.count("%d"), axis=1)))
    return os.fsencode("".join(lines))  # names in it as the disk has them


def _mtl(name: str) -> bytes:
    """Lit by nothing but itself: illumination model 0 is the colour as it is."""
    return os.fsencode(f"newmtl field\nKd 1 1 1\nillum 0\nmap_Kd {name}.png\n")


def _rows(template: str, values: NDArray) -> str:
    return (f"{template}\n" * len(values)) % tuple(values.ravel().tolist())


def _glb(mesh: Mesh, name: str) -> bytes:
    """With colours or a texture, unlit where the viewer knows how: those of a radiance field contain its light."""
    buffers: list[bytes] = []
    views: list[dict[str, object]] = []
    accessors: list[dict[str, object]] = []

    def store(data: bytes) -> int:
        views.append({"buffer": 0, "byteOffset": sum(map(len, buffers)), "byteLength": len(data)})
        buffers.append(data + b"\0" * (-len(data) % 4))
        return len(views) - 1

    def add(values: NDArray, component: int, kind: str, **extra: object) -> int:
        view = store(values.tobytes())
        if component == UINT16:
            views[view]["byteStride"] = 8
        count = values.size if kind == "SCALAR" else len(values)
        accessors.append({"bufferView": view, "componentType": component, "count": count, "type": kind, **extra})
        return len(accessors) - 1

    vertices = mesh.vertices.astype("<f4")
    low, high = (f(vertices, axis=0).tolist() for f in (np.min, np.max))
    attributes = {"POSITION": add(vertices, FLOAT, "VEC3", min=low, max=high)}
    if mesh.normals is not None:
        attributes["NORMAL"] = add(mesh.normals.astype("<f4"), FLOAT, "VEC3")
    if mesh.colors is not None:
        attributes["COLOR_0"] = add(_linear_colors(mesh.colors), UINT16, "VEC4", normalized=True)
    if mesh.uv is not None:
        attributes["TEXCOORD_0"] = add(mesh.uv.astype("<f4"), FLOAT, "VEC2")
    indices = add(mesh.faces.astype("<u4"), UINT32, "SCALAR")
    has_light = mesh.colors is not None or mesh.texture is not None
    unlit: dict[str, object] = {"KHR_materials_unlit": {}} if has_light else {}
    surface: dict[str, object] = {"metallicFactor": 0, "roughnessFactor": 1}
    textures: dict[str, object] = {}
    if mesh.texture is not None:
        surface["baseColorTexture"] = {"index": 0}
        image = {"bufferView": store(_png(mesh.texture)), "mimeType": "image/png"}
        textures = {
            "images": [image],
            "samplers": [{"magFilter": LINEAR, "minFilter": LINEAR_MIPMAP_LINEAR, "wrapS": CLAMP, "wrapT": CLAMP}],
            "textures": [{"source": 0, "sampler": 0}],
        }
    material = {"pbrMetallicRoughness": surface, "extensions": unlit}
    primitive = {"attributes": attributes, "indices": indices, "material": 0}
    document = json.dumps({
        "asset": {"version": "2.0", "generator": "neurfield", "extras": mesh.metadata},
        "scene": 0, "scenes": [{"nodes": [0]}], "nodes": [{"mesh": 0, "matrix": _columns(gltf_from_world(mesh.up))}],
        "meshes": [{"primitives": [primitive]}], "materials": [material],
        "accessors": accessors, "bufferViews": views, "buffers": [{"byteLength": sum(map(len, buffers))}],
        **textures, **({"extensionsUsed": list(unlit)} if unlit else {}),
    }).encode()  # fmt: skip
    document += b" " * (-len(document) % 4)
    binary = b"".join(buffers)
    total = 12 + 8 + len(document) + 8 + len(binary)
    head = b"glTF" + struct.pack("<II", 2, total)
    return (
        head
        + struct.pack("<I4s", len(document), b"JSON")
        + document
        + struct.pack("<I4s", len(binary), b"BIN\0")
        + binary
    )


def gltf_from_world(up: tuple[float, float, float]) -> NDArray[np.float64]:
    """The rotation `[3, 3]` that takes `up` to +y, which is up in glTF, and leaves x on the right.

    The node of a GLB carries it and the vertices stay in the world frame: viewers show the mesh upright, and programs
    that undo glTF's convention (Blender) get the world back where its up is +z.
    """
    y_axis = np.array(up) / np.linalg.norm(up)
    aside = np.eye(3)[0 if abs(y_axis[0]) < 0.9 else 2]
    x_axis = aside - (aside @ y_axis) * y_axis
    x_axis /= np.linalg.norm(x_axis)
    return np.stack([x_axis, y_axis, np.cross(x_axis, y_axis)])


def _columns(rotation: NDArray[np.float64]) -> list[float]:
    matrix = np.eye(4)
    matrix[:3, :3] = rotation
    return [float(v) for v in matrix.T.ravel() + 0.0]  # no -0


def _linear_colors(colors: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """sRGB bytes `[n, 3]` to the linear RGBA `[n, 4]` that glTF asks for; 16 bits keep the dark shades apart."""
    table = to_linear(np.arange(256) / 255)
    linear = np.full((len(colors), 4), 65535, "<u2")
    linear[:, :3] = np.round(table * 65535).astype("<u2")[colors]
    return linear


WRITERS: dict[str, Callable[[Mesh, str], bytes]] = {".ply": _ply, ".obj": _obj, ".glb": _glb, ".stl": _stl}
