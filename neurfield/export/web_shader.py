# SPDX-License-Identifier: Apache-2.0
"""A radiance field as a fragment shader of WebGL 2: the formulas of csrc/math with the field's own sizes written in.

The networks' matrices become uniform blocks of 4 x 4 tiles, so a product of a network is one of `mat4` and `vec4`; the
tables become texels of half floats. `web/march.glsl` walks along the rays and calls what is made here:

    encode(x, y)                     features of a position in the field's box, of one that moves at the uniform `time`
    density(x, geometry)             what sigma() reads; the features that the colour network reads
    look(direction, looked)          what the colour network's first layer takes from the direction, once per ray
    color(geometry, looked)          sRGB
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from neurfield.errors import UserError
from neurfield.export.web_field import WebField
from neurfield.ops.fused_mlp import MLPConfig
from neurfield.ops.hash_grid import GridConfig, GridLevel
from neurfield.rendering.volume import MarchOptions
from neurfield.sampling.occupancy_grid import BASE_STEP, OccupancyGrid

# csrc/math/activation.h
_ACTIVATIONS = {
    "None": "z",
    "ReLU": "max(z, 0.0)",
    "LeakyReLU": "max(z, 0.01 * z)",
    "SiLU": "z / (1.0 + exp(-z))",
    "Exponential": "exp(z)",
    "Sigmoid": "1.0 / (1.0 + exp(-z))",
    "Squareplus": "0.5 * (z + sqrt(z * z + 0.04))",
    "Softplus": "max(z, 0.0) + 0.1 * log(1.0 + exp(-10.0 * abs(z)))",
    "Tanh": "1.0 - 2.0 / (1.0 + exp(2.0 * z))",
}
_PRIMES = (1, 2654435761, 805459861, 3674653429)  # csrc/math/hash_grid.h
_FEATURES = {1: ("float", "r", "R16F"), 2: ("vec2", "rg", "RG16F"), 4: ("vec4", "rgba", "RGBA16F")}
_BLOCK_TILES = 256  # of 64 bytes: the smallest block that WebGL 2 promises
_MAX_BLOCKS = 12
_MAX_VALUES = 1 << 26  # of the table: at most 16384 rows of texels, and a text that browsers can hold

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Shader:
    """Attributes:
    source: of the fragment shader.
    blocks: uniform blocks by name, float32 of `mat4` tiles as std140 wants them.
    texel: WebGL's name of the format of the table's texels.
    """

    source: str
    blocks: dict[str, Floats]
    texel: str


def resource(name: str) -> str:
    """A file of neurfield/export/web."""
    return resources.files("neurfield.export").joinpath("web", name).read_text("utf-8")


def shader(field: WebField, grid: OccupancyGrid, march: MarchOptions) -> Shader:
    """The shader of a field.

    Raises:
        UserError: activations or sizes that it cannot have.
    """
    for part in (field.density, field.color):
        for name in (part.activation, part.output_activation):
            if name not in _ACTIVATIONS:
                raise UserError(f"a web page cannot have the activation {name}, only {', '.join(_ACTIVATIONS)}")
    if (n_values := field.table.numel()) > _MAX_VALUES:
        raise UserError(
            f"the table of this field has {n_values} values, a web page at most {_MAX_VALUES}: train one with a "
            "smaller table (--set field.encoding.log2_hashmap_size=21)"
        )
    n_geo = field.density.n_output_dims
    density = [w.numpy() for w, _ in field.density.matrices(field.density_params)]
    color = [w.numpy() for w, _ in field.color.matrices(field.color_params)]
    first, density[-1] = color[0], density[-1][:n_geo]
    layers = {f"density_{i}": _tiles(weights) for i, weights in enumerate(density)}
    layers |= {"color_0": _tiles(first[:, :n_geo]), "look_0": _tiles(first[:, n_geo:])}
    layers |= {f"color_{i}": _tiles(weights) for i, weights in enumerate(color[1:], 1)}
    layers[f"color_{len(color) - 1}"] = _tiles(color[-1][:3])
    blocks = {f"{name}_{k}": part for name, tiles in layers.items() for k, part in enumerate(_split(tiles))}
    if len(blocks) > _MAX_BLOCKS:
        raise UserError(
            f"the networks of this field fill {len(blocks)} blocks of a web page's shader, {_MAX_BLOCKS} are there: "
            "train one with narrower or fewer layers (--set field.color_network.n_neurons=64)"
        )
    parts = [
        "#version 300 es",
        "precision highp float; precision highp int; precision highp usampler2D; precision highp sampler2D;",
        *_constants(field, grid, march),
        *_encoding(field),
        *(line for name, tiles in layers.items() for line in _layer(name, tiles)),
        *_networks(field),
        *_sigma(field),
        resource("march.glsl"),
    ]
    return Shader("\n".join(parts), blocks, _FEATURES[_texel(field)][2])


def _constants(field: WebField, grid: OccupancyGrid, march: MarchOptions) -> Iterator[str]:
    n_sides = {"ENCODED": _quads(field.density.matrix_shapes[0][1]), "GEOMETRY": _quads(field.density.n_output_dims)}
    n_sides |= {"DENSITY": field.density.n_neurons // 4, "COLOR": field.color.n_neurons // 4}
    counts = {**n_sides, "CASCADES": grid.n_cascades, "RESOLUTION": grid.resolution, "MAX_SAMPLES": march.max_samples}
    for name, count in counts.items():
        yield f"const int {name} = {count};"
    dt_min = BASE_STEP * march.step_scale
    dt_max = max(math.sqrt(3), dt_min)
    growth = math.log1p(march.cone_angle) or 1.0  # without a cone nobody reads what it divides
    numbers = {"DT_MIN": dt_min, "DT_MAX": dt_max, "CONE": march.cone_angle, "GROWTH": growth, "NEAR": march.near}
    numbers |= {"T_A": dt_min / growth, "T_B": dt_max / growth}
    numbers |= {"N_A": math.log(dt_min / growth) / growth, "N_B": math.log(dt_max / growth) / growth}
    numbers["STOP"] = march.stop_transmittance
    for name, number in numbers.items():
        yield f"const float {name} = {_number(number)};"


def _sigma(field: WebField) -> Iterator[str]:
    """`sigma`, from the first output of the density network at a place in the unit cube of the field."""
    if field.surface is None:
        yield "float sigma(float h, vec3 place) { return exp(h); }"
        return
    beta, radius, scale, alpha, reach = (_number(x) for x in field.surface.tolist())
    side = _number(1 / field.inverse_size[0])
    yield f"""
float sigma(float h, vec3 place) {{
  float r = {side} * length(place - 0.5), f = {scale} * h + r - {radius};
  if (r > {reach}) return exp(h);
  float tail = exp(-abs(f) / {beta}) * 0.5 * {alpha};
  return f > 0.0 ? tail : {alpha} - tail;
}}"""


def _texel(field: WebField) -> int:
    """Features in a texel of the table."""
    return min(4, *(grid.n_features_per_level for grid in field.grids))


def _encoding(field: WebField) -> Iterator[str]:
    """`encode`: math/hash_grid.h, a call for each level and as many of its features as a texel has."""
    yield "uniform sampler2D table;"
    for grid in field.grids:
        yield from _level(grid, _texel(field))
    places = ["x"]
    if field.time_scale is not None:
        yield "uniform float time;"
        places.append(f"vec4(x, {_number(field.time_scale)} * time)")
    yield "void encode(vec3 x, out vec4 y[ENCODED]) {"
    yield f"  for (int i = 0; i < ENCODED; ++i) y[i] = vec4({_number(field.density.input_padding)});"
    n, channel, texel = _texel(field), 0, 0
    for grid, place in zip(field.grids, places, strict=True):
        n_parts = grid.n_features_per_level // n
        for one in grid.levels():
            factors = ", ".join(f"{factor}u" for factor in _factors(one, grid.n_input_dims))
            for part in range(n_parts):
                sizes = f"{one.n_entries}u, {texel + one.offset * n_parts + part}u, {'true' if one.hashed else 'false'}"
                yield f"  y[{channel // 4}].{'xyzw'[channel % 4 :][:n]} = level_{grid.n_input_dims}("
                yield f"    {place}, {_number(one.scale)}, uvec{grid.n_input_dims}({factors}), {sizes});"
                channel += n
        texel += grid.n_params // n
    yield "}"


def _level(grid: GridConfig, n_features: int) -> Iterator[str]:
    """`level_3` or `level_4`: as many features of a level, whose texels begin at `first`, as one of them has."""
    kind, channels, _ = _FEATURES[n_features]
    n_parts, n, axes = grid.n_features_per_level // n_features, grid.n_input_dims, "xyzw"[: grid.n_input_dims]
    fraction = {"Linear": "f", "Smoothstep": "f * f * (3.0 - 2.0 * f)", "Nearest": f"vec{n}(0.0)"}[grid.interpolation]
    at, weights = ([f"{name}.{axis}" for axis in axes] for name in ("at", "w"))
    yield f"""
{kind} level_{n}(vec{n} x, float scale, uvec{n} factors, uint n_entries, uint first, bool hashed) {{
  vec{n} place = scale * x + 0.5, lower = floor(place), f = place - lower;
  vec{n} upper_weight = {fraction}, lower_weight = 1.0 - upper_weight;
  uvec{n} low = uvec{n}(ivec{n}(lower)) * factors, high = low + factors;
  {kind} sum = {kind}(0.0);
  for (int k = 0; k < {1 if grid.interpolation == "Nearest" else 2**n}; ++k) {{
    bvec{n} up = bvec{n}({", ".join(f"k & {1 << i}" for i in range(n))});
    uvec{n} at = uvec{n}({", ".join(f"up.{axis} ? high.{axis} : low.{axis}" for axis in axes)});
    uint i = ((hashed ? {" ^ ".join(at)} : {" + ".join(at)}) % n_entries) * {n_parts}u + first;
    vec{n} w = mix(lower_weight, upper_weight, vec{n}(up));
    sum += {" * ".join(weights)} * texelFetch(table, ivec2(i & 4095u, i >> 12), 0).{channels};
  }}
  return sum;
}}"""


def _factors(level: GridLevel, n_dims: int) -> tuple[int, ...]:
    """Of the vertex coordinates: primes of the hash, or powers of the resolution where those fit 32 bits."""
    if level.hashed:
        return _PRIMES[:n_dims]
    return tuple(level.resolution**i if level.resolution**n_dims < 1 << 32 else 0 for i in range(n_dims))


def _layer(name: str, tiles: Floats) -> Iterator[str]:
    """`NAME(x, y)`: y = W x for a matrix of tiles `[n_out / 4, n_in / 4, 4, 4]`, in uniform blocks."""
    n_out, n_in = tiles.shape[:2]
    for k, part in enumerate(_split(tiles)):
        yield f"layout(std140) uniform Block_{name}_{k} {{ mat4 {name}_{k}[{len(part)}]; }};"
    yield f"void {name}(vec4 x[{n_in}], out vec4 y[{n_out}]) {{"
    rows = _block_rows(tiles)
    for k, first in enumerate(range(0, n_out, rows)):
        yield f"""  for (int o = {first}; o < {min(first + rows, n_out)}; ++o) {{
    y[o] = vec4(0.0);
    for (int i = 0; i < {n_in}; ++i) y[o] += {name}_{k}[(o - {first}) * {n_in} + i] * x[i];
  }}"""
    yield "}"


def _networks(field: WebField) -> Iterator[str]:
    """`density`, `look` and `color`, of the layers above."""
    yield from _activation("density", field.density)
    yield from _activation("color", field.color)
    last, n = field.density.n_hidden_layers, "DENSITY"
    yield f"float density(vec3 x, out vec4 geometry[GEOMETRY]) {{\n  vec4 e[ENCODED], h[{n}], g[{n}];\n  encode(x, e);"
    yield f"  density_0(e, h);\n  density_act(h);\n{_hidden('density', last)}  density_{last}(h, geometry);"
    yield "  return geometry[0].x;\n}"

    n_side = _quads(field.color.matrix_shapes[0][1] - field.density.n_output_dims)
    yield f"void look(vec3 d, out vec4 y[COLOR]) {{\n  vec4 s[{n_side}];"
    yield f"  for (int i = 0; i < {n_side}; ++i) s[i] = vec4({_number(field.color.input_padding)});"
    yield from _harmonics(field.sh_degree)
    yield "  look_0(s, y);\n}"

    last = field.color.n_hidden_layers
    yield "vec3 color(vec4 geometry[GEOMETRY], vec4 looked[COLOR]) {\n  vec4 h[COLOR], g[COLOR], y[1];"
    yield "  color_0(geometry, h);\n  for (int i = 0; i < COLOR; ++i) h[i] += looked[i];\n  color_act(h);"
    yield f"{_hidden('color', last)}  color_{last}(h, y);\n  vec4 z = y[0];"
    yield f"  return ({_ACTIVATIONS[field.color.output_activation]}).rgb;\n}}"


def _activation(name: str, config: MLPConfig) -> Iterator[str]:
    n, activated = name.upper(), _ACTIVATIONS[config.activation]
    yield f"void {name}_act(inout vec4 h[{n}]) {{"
    yield f"  for (int i = 0; i < {n}; ++i) {{ vec4 z = h[i]; h[i] = {activated}; }}\n}}"


def _hidden(name: str, last: int) -> str:
    return "".join(f"  {name}_{i}(h, g);\n  h = g;\n  {name}_act(h);\n" for i in range(1, last))


def _harmonics(degree: int) -> Iterator[str]:
    """s = Y(d), math/spherical_harmonics.h: columns of one order m, upwards in l."""
    yield "  float x = d.x, y_ = d.y, z = d.z, c = 1.0, s_ = 0.0, below, q, above;"
    square = 1 / (4 * math.pi)
    for m in range(degree):
        if m:
            yield "  above = c * x - s_ * y_; s_ = c * y_ + s_ * x; c = above;"
            square *= (2 * m + 1) / (2 * m) * (2 if m == 1 else 1)
        yield f"  below = 0.0; q = {_number((-1) ** m * math.sqrt(square))};"
        for n in range(m, degree):
            if n > m:
                a = math.sqrt((4 * n * n - 1) / (n * n - m * m))
                b = (
                    math.sqrt(((n - 1) ** 2 - m * m) * (2 * n + 1) / ((2 * n - 3) * (n * n - m * m)))
                    if n > m + 1
                    else 0
                )
                yield f"  above = {_number(a)} * z * q - {_number(b)} * below; below = q; q = above;"
            yield f"  {_component(n * n + n + m)} = q * c;"
            if m:
                yield f"  {_component(n * n + n - m)} = q * s_;"


def _component(i: int) -> str:
    return f"s[{i // 4}].{'xyzw'[i % 4]}"


def _quads(n: int) -> int:
    return -(-n // 4)


def _number(value: float) -> str:
    text = f"{float(value):.9g}"
    return text if any(c in text for c in ".en") else f"{text}.0"


def _tiles(weights: Floats) -> Floats:
    """`[n_out, n_in]` as 4 x 4 tiles `[n_out / 4, n_in / 4, 4, 4]`, columns first, padded with zeros."""
    n_out, n_in = weights.shape
    padded = np.pad(weights, ((0, -n_out % 4), (0, -n_in % 4))).astype(np.float32)
    return padded.reshape(_quads(n_out), 4, _quads(n_in), 4).transpose(0, 2, 3, 1)


def _block_rows(tiles: Floats) -> int:
    """Rows of tiles in a block."""
    return max(_BLOCK_TILES // tiles.shape[1], 1)


def _split(tiles: Floats) -> list[Floats]:
    """The tiles of each block, `[n, 4, 4]`."""
    rows = _block_rows(tiles)
    return [tiles[first : first + rows].reshape(-1, 4, 4) for first in range(0, len(tiles), rows)]
