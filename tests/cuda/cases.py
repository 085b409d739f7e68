# SPDX-License-Identifier: Apache-2.0
"""One call of every operator that has CUDA kernels, and how far two devices may differ in each result.

`run(to)` moves the same inputs with `to` and returns named results. The bound of a result is a number of roundings at
a scale, with its reason, or exact; `fma_only` marks those that are exact where the CPU has FMA, `any_order` those that
are not the same bits in every run.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from neurfield import _native, ops
from neurfield.cameras.cameras import CAMERA_MODELS, Cameras, panorama_intrinsics
from tests.cases import packed_samples, uniform, unit_vectors
from tests.meshes import icosphere

Move = Callable[[Tensor], Tensor]
F32, F64 = torch.float32, torch.float64


class Result(NamedTuple):
    name: str
    value: Tensor
    roundings: float = 0.0  # 0: the same bits
    scale: float | Tensor = 1.0
    fma_only: bool = False
    any_order: bool = False  # summed by atomics: other last bits in every run on a device


@dataclass(frozen=True)
class Case:
    name: str
    run: Callable[[Move], Iterator[Result]]


def cameras_of(to: Move, dtype: torch.dtype, n: int = len(CAMERA_MODELS), model: int | None = None) -> Cameras:
    """Views of all models, 37 x 29 pixels, around the unit cube."""
    c2w = torch.eye(3, 4, dtype=F64).repeat(n, 1, 1)
    for view in range(n):
        angle = 0.4 * view
        c2w[view, :, 0] = torch.tensor([math.cos(angle), 0, -math.sin(angle)], dtype=F64)
        c2w[view, :, 2] = torch.tensor([math.sin(angle), 0, math.cos(angle)], dtype=F64)
        c2w[view, :, 3] = 0.5 + 1.4 * c2w[view, :, 2]
    models = torch.arange(n) % len(CAMERA_MODELS) if model is None else torch.full((n,), model)
    distortion = torch.zeros(n, 6, dtype=F64)
    distortion[models == 1] = torch.tensor([0.05, -0.02, 0.01, 0.0, 1e-3, -2e-3], dtype=F64)
    distortion[models == 2] = torch.tensor([0.03, -0.01, 0.0, 0.0, 0.0, 0.0], dtype=F64)
    intrinsics = torch.tensor([[40.0, 41.0, 18.2, 14.9]], dtype=F64).repeat(n, 1)
    intrinsics[models == 3] = torch.tensor(panorama_intrinsics(37, 29), dtype=F64)
    return Cameras(
        c2w=to(c2w.to(dtype)),
        intrinsics=to(intrinsics.to(dtype)),
        sizes=to(torch.tensor([[37, 29]]).repeat(n, 1)),
        models=to(models),
        distortion=to(distortion.to(dtype)),
        times=to(torch.zeros(n, dtype=dtype)),
    )


def density_grid(n_cascades: int = 3, resolution: int = 32, threshold: float = 0.7) -> Tensor:
    """A few balls and noise, some cells closed."""
    grid = uniform(n_cascades, resolution**3, seed=3)
    grid[:, ::7] = -1
    grid[:, resolution**3 // 3 : resolution**3 // 2] = 0
    return grid * (grid < 0.95) + 0


def aabb(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        origins, directions = uniform(1000, 3, low=-2, high=2, dtype=dtype), unit_vectors(1000, dtype)
        directions[::5, 1] = 0
        near, far = ops.ray_aabb(to(origins), to(directions), to(torch.tensor([-1, -1, -1, 1, 1.5, 1], dtype=dtype)))
        yield Result("t_near", near)
        yield Result("t_far", far)

    return run


def frequency(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        x = to(uniform(257, 3, low=-2, high=2, dtype=dtype)).requires_grad_()
        y = ops.frequency(x, 6)
        # the CPU rounds an angle of up to 2 pi, half a unit of 4 to 8, and calls libm; CUDA's sinpi errs by 2 units
        yield Result("y", y.detach(), 12)
        grad_y = uniform(257, 36, low=-1, dtype=dtype, seed=1)
        (grad_x,) = torch.autograd.grad(y, x, to(grad_y))
        scale = (math.pi * 2.0 ** torch.arange(6, dtype=F64)).repeat_interleave(2).repeat(3) * grad_y.double().abs()
        # of each of 12 terms the error above, a product and a sum
        yield Result("grad_x", grad_x, 16, scale.view(257, 3, 12).sum(2).to(x.device))

    return run


def fourier(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for n_dims, n_frequencies, n_gates in ((1, 1, 0), (2, 37, 5), (8, 100, 0)):
            name = f"{n_dims} dims, {n_frequencies} frequencies, {n_gates} gates"
            x = to(uniform(129, n_dims, low=-1, dtype=dtype)).requires_grad_()
            frequencies = uniform(n_frequencies, n_dims, low=-4, high=4, dtype=dtype, seed=1)
            gates = to(uniform(129, n_gates, dtype=dtype, seed=2)) if n_gates else None
            y = ops.fourier_features(x, to(frequencies), gates)
            # The turns are the same numbers where both have FMA, else they differ by a rounding of up to 32 turns per
            # term; a fraction of a turn times 2 pi is rounded by half a unit of 2 to 4, sine and cosine err by 2.
            angle = 2 * math.pi * 32 * n_dims + 8
            yield Result(f"y, {name}", y.detach(), angle)
            grad_y = uniform(129, 2 * n_frequencies, low=-1, dtype=dtype, seed=3)
            (grad_x,) = torch.autograd.grad(y, x, to(grad_y))
            # two such terms and four roundings per frequency, each over 2 pi 4, and their sum in another order
            scale = 2 * math.pi * 4 * grad_y.double().abs().sum(1, keepdim=True).expand(129, n_dims)
            yield Result(f"grad_x, {name}", grad_x, angle + 4 + n_frequencies, scale.to(x.device))

    return run


GRIDS = ((7,), (3, 1), (4, 2, 5), (2, 3, 2, 3))


def gates(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for resolution in GRIDS:
            x = uniform(300, len(resolution), low=-0.2, high=1.2, dtype=dtype)
            x[7] = math.nan
            counts = (uniform(math.prod(resolution), 6, high=28, seed=1)).to(torch.uint8)
            for n_open in (6, 2, 0):
                factors = torch.arange(1, 7, dtype=dtype) / 27 * (torch.arange(6) < n_open)
                y = ops.gates(to(x), to(counts), to(factors), resolution)
                yield Result(f"{n_open} open of {resolution}", y, fma_only=True)

    return run


def modulation(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for resolution, wraps in itertools.product(GRIDS, (False, True)):
            name = f"{resolution}{', wraps' * wraps}"
            n, n_dims = 300, len(resolution)
            x = uniform(n, n_dims, low=-0.2, high=1.2, dtype=dtype)
            values = uniform(math.prod(resolution), 6, low=-1, dtype=dtype, seed=1)
            inputs = [to(t).requires_grad_() for t in (x, values)]
            y = ops.modulation(*inputs, resolution, [wraps] * n_dims)
            yield Result(f"y, {name}", y.detach(), fma_only=True)
            grad_y = uniform(n, 6, low=-1, dtype=dtype, seed=2)
            grad_x, grad_values = torch.autograd.grad(y, inputs, to(grad_y))
            yield Result(f"grad_x, {name}", grad_x, fma_only=True)
            # up to n products of a weight of at most 1 and a gradient below 1, added up in two orders
            yield Result(f"grad_values, {name}", grad_values, 2 * n + 2, n, any_order=True)

    return run


def harmonics(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for degree in (1, 4, 8):
            d = to(unit_vectors(300, dtype)).requires_grad_()
            y = ops.spherical_harmonics(d, degree)
            # Products and sums only, so the same bits. But in the AVX2 module, GCC makes vfmaddsub of the real and the
            # imaginary part of (x + iy)^m, -ffp-contract=off or not: a rounding less for each of m < degree steps,
            # in degree^2 terms of the gradient, each below degree.
            roundings = degree if _native.isa == "avx2" else 0
            yield Result(f"y of degree {degree}", y.detach(), roundings)
            grad_y = to(uniform(300, degree**2, low=-1, dtype=dtype))
            gradient = torch.autograd.grad(y, d, grad_y)[0]
            yield Result(f"gradient of degree {degree}", gradient, roundings, degree**3)

    return run


def truncated_exp(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        x = to(uniform(1001, low=-20, high=20, dtype=dtype)).requires_grad_()
        y = ops.trunc_exp(x)
        single = dtype == F32  # one polynomial for both; double is each libm's, 2 units each
        yield Result("y", y.detach(), 0 if single else 8, fma_only=single)
        grad = torch.autograd.grad(y, x, to(uniform(1001, low=-1, dtype=dtype)))[0]
        yield Result("grad_x", grad, 0 if single else 10, fma_only=single)

    return run


def rays(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        views = torch.arange(600) % len(CAMERA_MODELS)
        pixel_xy = uniform(600, 2, high=29, dtype=dtype)
        cameras = cameras_of(to, dtype)
        cameras.c2w.requires_grad_()
        origins, directions = ops.camera_rays(cameras, to(views), to(pixel_xy))
        yield Result("origins", origins.detach())
        # a fisheye and a panorama take sines and cosines in double, 2 units each, scale and rotate them
        bend = 4 if dtype == F32 else 24
        yield Result("directions", directions.detach(), bend)
        upstream = [to(uniform(600, 3, low=-1, dtype=dtype, seed=s)) for s in (5, 6)]
        (grad_c2w,) = torch.autograd.grad((origins, directions), cameras.c2w, upstream)
        # 150 rays per view: products below one of the local directions, added up in two orders
        yield Result("gradient of c2w", grad_c2w, 2 * 150 + bend + 2, 150.0, any_order=True)
        cameras.c2w.requires_grad_(False)
        points = to(uniform(600, 3, dtype=dtype, seed=2))
        pixel_xy, depths = ops.project(cameras, to(views), points)
        yield Result("depths", depths)
        # an angle of arctangent, 2 units, at up to 100 pixels from the centre
        yield Result("projected", pixel_xy.nan_to_num(-1), 4 if dtype == F32 else 24, 256.0)

    return run


def pixels(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        cameras = cameras_of(to, F32, 3, model=0)
        sizes = torch.tensor([[37, 29]]).repeat(3, 1)
        n_pixels = 3 * 37 * 29
        values = (uniform(n_pixels, 4) * 255).to(dtype)
        masks = (uniform(n_pixels, seed=4) < 0.8).to(torch.uint8)
        blocks = torch.arange(0, 60, 2, dtype=torch.int32)
        some = {"masks": to(masks), "blocks": to(blocks), "rays_per_pixel": 4}
        around = cameras_of(to, F32, 3, model=3)
        for name, seen, options in (("all", cameras, {}), ("some", cameras, some), ("panoramas", around, some)):
            drawn = ops.sample_pixels(to(values), to(sizes), seen, 1000, 3, 5, **options)
            for field in drawn._fields:
                yield Result(f"{field} of {name}", getattr(drawn, field))
        for name, color in (("random", None), ("white", to(torch.ones(3)))):
            rgb, background = ops.over_background(drawn.targets, color, 3, 5)
            yield Result(f"rgb over {name}", rgb)
            yield Result(f"background {name}", background)

    return run


def march(cone_angle: float):
    def run(to: Move) -> Iterator[Result]:
        n = 1500
        origins, directions = uniform(n, 3, low=-1, high=2), unit_vectors(n, seed=1)
        grid = ops.occupancy_bits(density_grid(), 0.9)
        settings = {"cone_angle": cone_angle, "step_scale": 2.0, "near": 0.05, "seed": 1, "step": 4}
        inputs = [to(t) for t in (origins, directions, *grid)]
        n_samples = len(ops.march(*inputs, max_samples=60, **settings).t_starts)
        for capacity in (None, 0, 5000, n_samples - 1, n_samples):
            found = ops.march(*inputs, capacity=capacity, max_samples=60, **settings)
            for field in ("packed_info", "ray_indices", "t_starts", "t_ends"):
                yield Result(f"{field} in {capacity}", getattr(found, field), fma_only=True)
            yield Result(f"dropped in {capacity}", torch.tensor(found.n_dropped), fma_only=True)
        for capacity in (0, 5000, n_samples + 300):
            found = ops.march(*inputs, capacity=capacity, padded=True, max_samples=60, **settings)
            for field, value in found._asdict().items():
                yield Result(f"{field} padded to {capacity}", value, fma_only=True)

    return run


def composite(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        counts = [0, 1, 31, 32, 33, 64, 200, 7] * 9
        inputs = packed_samples(counts, dtype)
        inputs["sigmas"][40:60] *= 50  # opaque: rays are cut
        floats = {k: to(v).requires_grad_() for k, v in inputs.items() if k != "packed_info"}
        result = ops.composite(**floats, packed_info=to(inputs["packed_info"]))
        # both add at most 200 terms of at most 1 in two orders; a double opacity errs by 2 units on either side
        n = 2 * 200 + 8
        reach = float(inputs["t_ends"].max())
        yield Result("weights", result.weights.detach(), 0 if dtype == F32 else n, fma_only=dtype == F32)
        yield Result("rgb", result.rgb.detach(), n)
        yield Result("depth", result.depth.detach(), n, reach)
        yield Result("acc", result.acc.detach(), n)
        yield Result("distortion", result.distortion.detach(), 2 * n, reach)  # two sums, one inside the other
        for needed in (("rgb",), ("rgb", "depth", "acc", "weights", "distortion")):
            upstream = [to(uniform(*getattr(result, k).shape, low=-1, dtype=dtype, seed=9)) for k in needed]
            outputs = [getattr(result, k) for k in needed]
            grads = torch.autograd.grad(outputs, list(floats.values()), upstream, retain_graph=True)
            # dL/dtau is a difference of sums of v_s w_s, |v_s| at most 3 + depth + 1 + 1 + 2 reach; of it follow the
            # others by a product with sigma, at most 200, or delta
            size = 5 + 3 * reach
            for name, grad in zip(floats, grads, strict=True):
                scale = size * (200 if name.startswith("t_") else 1)
                yield Result(f"gradient of {name} by {len(needed)}", grad, 4 * n, scale)

    return run


def occupancy(to: Move) -> Iterator[Result]:
    for n_cascades, resolution in ((1, 8), (3, 32), (2, 128)):
        grid = density_grid(n_cascades, resolution)
        name = f"{n_cascades} x {resolution}"
        bitfield, coarse = ops.occupancy_bits(to(grid), 0.9)
        yield Result(f"bitfield {name}", bitfield)
        yield Result(f"coarse {name}", coarse)
        few = torch.zeros(n_cascades, resolution**3 // 8, dtype=torch.uint8)
        few[:, ::1013] = 1
        yield Result(f"coarse of few {name}", ops.occupancy_coarse(to(few)))
        yield Result(f"coarse of none {name}", ops.occupancy_coarse(to(few * 0)))
        yield Result(f"mean {name}", ops.occupancy_mean(to(grid)), 2 * 4096)  # the CPU adds up to 4096 terms in a row
        cells = ops.occupancy_select(to(grid), 0.5)
        yield Result(f"cells {name}", cells)
        drawn, positions = ops.occupancy_draw(cells, 5000, resolution, 2, 7, 1)
        yield Result(f"drawn {name}", drawn)
        yield Result(f"positions {name}", positions, fma_only=True)
        for listed in (0, 9):
            count = to(torch.tensor([listed]))
            few, positions = ops.occupancy_draw(cells, 500, resolution, 2, 7, 1, count)
            yield Result(f"drawn of {listed}, {name}", few)
            yield Result(f"positions of {listed}, {name}", positions, fma_only=True)
        values = uniform(5000, low=-0.5, high=2, seed=6)
        values[:3] = torch.tensor([math.nan, math.inf, 0.0])
        updated = to(grid.clone())
        ops.occupancy_update(updated, drawn, to(values), 0.95)
        yield Result(f"updated {name}", updated)


def mesh(to: Move) -> Iterator[Result]:
    """A ball, one that is open, triangles without area or with little, and a single one."""
    x = uniform(500, 3, low=-1.5, high=1.5)
    x[3] = math.nan
    vertices, faces = icosphere(2)
    soup = uniform(900, 3, low=-1, seed=1), torch.arange(900).view(300, 3) // torch.tensor([1, 2, 1])
    meshes = {
        "ball": (vertices, faces, True),
        "half a ball": (vertices, faces[: len(faces) // 2], False),
        "soup": (*soup, False),
        "triangle": (vertices, faces[:1], False),
    }
    for name, (vertices, faces, is_closed) in meshes.items():
        tree = ops.mesh_tree(to(vertices), to(faces))
        for field, value in tree._asdict().items():
            yield Result(f"{field} of the {name}", value)
        points = to(torch.cat([x, vertices]))  # corners lie in sides of boxes
        yield Result(f"distance to the {name}", ops.mesh_distance(tree, points))
        yield Result(f"inside of the {name}", ops.mesh_inside(tree, points, is_closed))


def carve_large(to: Move) -> Iterator[Result]:
    """Sides of which 512 pairs of pixels and a single pixel are left: all that is opaque lies in the single ones."""
    cameras = cameras_of(to, F32, 2, model=0)
    cameras.sizes[:] = to(torch.tensor([[1025, 1025], [1025, 600]]))
    cameras.intrinsics[:] = to(torch.tensor([900.0, 900.0, 512.0, 400.0]))
    silhouettes = [torch.zeros(1025, 1025, dtype=torch.uint8), torch.zeros(600, 1025, dtype=torch.uint8)]
    for opaque in silhouettes:
        opaque[:, 1024:] = 1
    silhouettes[0][1024:] = 1
    grid = to(torch.zeros(1, 16**3))
    ops.carve(grid, cameras, to(torch.cat([opaque.view(-1) for opaque in silhouettes])), -1.0, margin=200.0)
    yield Result("carved", grid, fma_only=True)


def carve(to: Move) -> Iterator[Result]:
    for model in range(len(CAMERA_MODELS)):
        cameras = cameras_of(to, F32, 4, model)
        opaque = (uniform(4, 29, 37, seed=5) < 0.02).to(torch.uint8)
        opaque[:, 8:20, 10:25] = 1
        grid = to(torch.zeros(2, 16**3))
        ops.carve(grid, cameras, to(opaque.view(-1)), -1.0)
        yield Result(f"carved by model {model}", grid.clone(), fma_only=True)
        ops.close_unseen(grid, cameras, -1.0)
        yield Result(f"seen by model {model}", grid.clone(), fma_only=True)
        blocks = ops.occupied_pixel_blocks(cameras, *ops.occupancy_bits(grid, -0.5))
        yield Result(f"blocks of model {model}", blocks, fma_only=True)


def depths(to: Move) -> Iterator[Result]:
    """Points around and behind views through every lens, whose pictures end at their borders."""
    points = uniform(700, 3, low=-1.5, high=2.5)
    points[3] = math.nan
    for n_views in (0, 1, 7):
        cameras = cameras_of(to, F32, n_views)
        cameras.distortion[2:3, 0] = -0.12  # a fisheye that folds
        pictures = uniform(n_views * 37 * 29, low=0.5, high=3, seed=5)
        pictures[::9], pictures[::13] = math.inf, math.nan
        given = (cameras, to(pictures), to(points))
        distance, is_sheet = ops.fuse_depths(*given, 0.7, 0.4)
        yield Result(f"distance by {n_views} views", distance)
        yield Result(f"sheets of {n_views} views", is_sheet)
        for in_front in (False, True):
            seen = ops.seen_in_depths(*given, 0.05, 6.0, in_front)
            yield Result(f"seen by {n_views} views{', in front' * in_front}", seen)


def adam(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        n = 1000
        for own_steps in (False, True):
            state = [uniform(n, low=low, dtype=dtype, seed=s) for s, low in ((1, -1), (3, -1), (4, 0))]
            params, exp_avg, exp_avg_sq = (to(t) for t in state)
            grad = uniform(n, low=-1, dtype=dtype, seed=2)
            grad[::3] = 0
            steps = to((torch.arange(n) % 700).to(torch.int16)) if own_steps else None
            copy = to(state[0].half())
            ops.adam_step(
                params, to(grad), exp_avg, exp_avg_sq, step=5, learning_rate=0.01, l2_reg=1e-6, skip_zero=True,
                steps=steps, copy=copy,
            )  # fmt: skip
            clocked = [t.clone() for t in (params, exp_avg, exp_avg_sq)]
            own = None if steps is None else steps.clone()
            for number in (6.0, 0.0):  # the second call changes nothing
                clock = to(torch.tensor([number, 0.02], dtype=F64))
                ops.adam_step_by_clock(
                    clock, clocked[0], to(grad), *clocked[1:], l2_reg=1e-6, skip_zero=True, steps=own
                )
            name = "own steps" if own_steps else "one step"
            # rates by expm1 on CUDA, as own ones are, of updates below 2
            yield Result(f"params by a clock, {name}", clocked[0], 20 if dtype == F32 else 2000)
            yield Result(f"exp_avg_sq by a clock, {name}", clocked[2])
            yield Result(f"exp_avg, {name}", exp_avg)
            yield Result(f"exp_avg_sq, {name}", exp_avg_sq)
            # an own rate errs by 8 roundings in float (csrc/math/adam.h); an update is below one
            yield Result(f"params, {name}", params, 10 if own_steps and dtype == F32 else 1000 if own_steps else 0)
            yield Result(f"copy, {name}", copy, 2 if own_steps else 0)
            if steps is not None:
                yield Result("steps", steps)

    return run


def wavelets(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        omega, scale = 20.0, 10.0
        for width in (1, 37):
            u = to(uniform(257, 2 * width, low=-0.4, high=0.4, dtype=dtype)).requires_grad_()
            h = ops.wavelet(u, omega, scale)
            a, b = u.detach().double().chunk(2, dim=1)
            size = (-omega * b - scale**2 * (a * a + b * b)).exp()
            # exponent and angle round in products and sums of this size, then come e^x (2 units), sine and cosine (2)
            terms = omega * (a.abs() + b.abs()) + 4 * scale**2 * (a * a + b * b) + 4
            bound = (size * terms).repeat(1, 2)
            yield Result(f"h, {width}", h.detach(), 2, scale=bound)
            grad_h = uniform(257, 2 * width, low=-1, dtype=dtype, seed=1)
            (grad_u,) = torch.autograd.grad(h, u, to(grad_h))
            # twice a sum of two products with h, times the slopes
            steepest = 4 * (omega + 2 * scale**2 * u.detach().double().abs())
            yield Result(f"dL/du, {width}", grad_u, 2 + 4, scale=bound * steepest)

    return run


def grid(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        configs = {
            "hash": ops.GridConfig(3, 5, 2, 8, 5, 1.4),
            "dense, smooth": ops.GridConfig(2, 3, 4, 8, 5, 1.4, "Dense", "Smoothstep"),
            "tiled": ops.GridConfig(4, 2, 8, 8, 3, 1.4, "Tiled"),
            "40 levels": ops.GridConfig(1, 40, 1, 6, 5, 1.05),
            "nearest": ops.GridConfig(3, 4, 1, 8, 5, 1.4, "Hash", "Nearest"),
        }
        tables = (dtype, torch.float16) if dtype == F32 else (dtype,)
        for (name, config), table in itertools.product(configs.items(), tables):
            n, seen = 257, uniform(257, high=1.2, seed=4)
            x, grad_y = uniform(n, config.n_input_dims, dtype=dtype), uniform(n, config.n_output_dims, low=-1, seed=2)
            params = uniform(config.n_params, low=-1, seed=1).to(table)
            inputs = [to(t).requires_grad_() for t in (x, params, grad_y.to(dtype))]
            y = ops.hash_grid(*inputs[:2], config, to(seen))
            name = f"{name}, {str(table).removeprefix('torch.')}"
            # weights of 4 factors, then a sum of 16 terms of at most 1
            yield Result(f"y, {name}", y, 4 + 16)
            grad_x, grad_params = torch.autograd.grad(y, inputs[:2], inputs[2], create_graph=True)
            steepest = 2 * max(level.scale for level in config.levels())  # smoothstep: 1.5 times as steep
            terms = 16 * config.n_output_dims
            yield Result(f"dL/dx, {name}", grad_x, 4 + terms, scale=steepest * terms)
            # Sums of up to n weights below 1, in another order; a float16 table rounds its gradient once more, where
            # the roundings of float are as nothing.
            whole = table == dtype
            yield Result(f"dL/dtable, {name}", grad_params, n if whole else 2, scale=n if whole else 1, any_order=True)
            second = torch.autograd.grad((grad_x * grad_x.detach()).sum(), inputs, materialize_grads=True)
            size = (steepest * terms) ** 2
            for what, value in zip(("x", "dL/dy"), (second[0], second[2]), strict=True):
                yield Result(f"second order, {what}, {name}", value, 4 + terms, scale=size * steepest)

    return run


def perceptron(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for config in (
            ops.MLPConfig(32, 16, 64, 1),
            ops.MLPConfig(31, 3, 48, 2, "SiLU", "Sigmoid", bias=True, input_padding=1.0),
            ops.MLPConfig(5, 70, 128, 1, "Sine", "Sine", bias=True),
            ops.MLPConfig(200, 7, 16, 0, "None", "Exponential"),
            ops.MLPConfig(5, 3, 16, 2, "Sine", bias=True, first_omega=2.0, omega=1.5),
            ops.MLPConfig(5, 3, 16, 2, "Gaussian", bias=True, scale=1.5),
            ops.MLPConfig(5, 3, 16, 2, "Gabor", bias=True, first_omega=2.0, omega=1.5, scale=1.5),
            ops.MLPConfig(5, 3, 16, 2, "FINER", bias=True, first_omega=2.0, omega=1.5),
        ):
            name = f"{config.n_input_dims}-{config.n_neurons}-{config.n_output_dims} {config.activation}"
            limit = (3 / config.n_neurons) ** 0.5
            params = uniform(config.n_params, low=-limit, high=limit, dtype=dtype, seed=1)
            x = uniform(100, config.n_input_dims, low=-0.1, high=0.1, dtype=dtype)
            inputs = [to(t).requires_grad_() for t in (x, params)]
            y = ops.fused_mlp(*inputs, config)
            grad_y = uniform(100, config.n_output_dims, low=-1, dtype=dtype, seed=2)
            grads = torch.autograd.grad(y, inputs, to(grad_y))
            # a sum of up to 200 terms below 1, three times at most; gradients go back the same way, over 100 samples
            yield Result(f"y, {name}", y, 3 * 200)
            yield Result(f"dL/dx, {name}", grads[0], 6 * 200, scale=limit * config.n_neurons)
            yield Result(f"dL/dparams, {name}", grads[1], 6 * 200 + 100, scale=100)

    return run


def modulated_perceptron(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        for config, per_layer in (
            (ops.MLPConfig(5, 3, 16, 1), True),
            (ops.MLPConfig(31, 3, 48, 3, "SiLU", "Sigmoid", bias=True, normalizes=True), True),
            (ops.MLPConfig(5, 70, 64, 2, "Sine", "Sine", bias=True, first_omega=2.0, normalizes=True), False),
            (ops.MLPConfig(5, 3, 32, 2, "Tanh", bias=True), False),
        ):
            name = f"{config.n_neurons} {config.activation}{', normalised' * config.normalizes}"
            limit = (3 / config.n_neurons) ** 0.5
            n, n_numbers = 100, 2 * config.n_hidden_layers if per_layer else 2
            params = uniform(config.n_params, low=-limit, high=limit, dtype=dtype, seed=1)
            x = uniform(n, config.n_input_dims, low=-1, dtype=dtype)
            modulation = uniform(n, n_numbers, low=-1, dtype=dtype, seed=3)
            inputs = [to(t).requires_grad_() for t in (x, params, modulation)]
            y = ops.fused_mlp(*inputs[:2], config, inputs[2])
            grad_y = uniform(n, config.n_output_dims, low=-1, dtype=dtype, seed=2)
            grads = torch.autograd.grad(y, inputs, to(grad_y))
            # as without modulation; a normalised layer divides by the deviation of a row's sums, above 1/4 here
            terms = 3 * 200 * (4**config.n_hidden_layers if config.normalizes else 1)
            yield Result(f"y, {name}", y, terms)
            size = limit * config.n_neurons * config.n_hidden_layers
            yield Result(f"dL/dx, {name}", grads[0], 2 * terms, scale=size * config.n_output_dims)
            yield Result(f"dL/dparams, {name}", grads[1], 2 * terms + n, scale=n * config.n_output_dims)
            # a sum over the features of a row
            scale = config.n_neurons * config.n_output_dims
            yield Result(f"dL/dmodulation, {name}", grads[2], 2 * terms, scale=scale)

    return run


def kilo_cells(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        cells = torch.arange(60, dtype=torch.int32).view(3, 4, 5) - 7
        x = uniform(400, 3, low=-1, high=4, dtype=dtype)
        x[3], x[4] = math.nan, torch.tensor([2.6, 2.2, 1.7])  # the upper corner
        network, local = ops.kilo_locate(to(x), ops.KiloCells(to(cells), (0.1, 0.2, 0.2), (2.0, 2.0, 2.0)))
        yield Result("network", network)
        yield Result("local", local)

    return run


def tiny_networks(dtype: torch.dtype):
    def run(to: Move) -> Iterator[Result]:
        shapes = ((16, 2, 1, 1500), (48, 0, 3, 200), (32, 10, 4, 200), (64, 20, 20, 70))
        for (*shape, n), has_color in itertools.product(shapes, (True, False)):
            config = ops.KiloConfig(*shape)
            name = f"{shape}{', colour' * has_color}"
            # no sum of a layer has more terms: values stay below 1 through all layers, gradients of heads below 1 and
            # of hidden values below 2 / widest
            widest = max(3 + 6 * shape[1], shape[0] + 3 + 6 * shape[2])
            params = uniform(5, config.n_params, low=-1 / widest, high=1 / widest, dtype=dtype)
            network = (uniform(n, seed=1) * 6).int() - 1  # -1: none
            network[network == 1] = 2
            network[:1200] = network[:1200].where(network[:1200] < 0, 3)  # more than a thread block takes; few others
            network[:20] = torch.arange(20) % 2 * 4
            x, d = uniform(n, 3, low=-1, dtype=dtype, seed=2), unit_vectors(n, dtype, seed=3)
            inputs = [to(t).requires_grad_() for t in (x, d, params)]
            y = ops.kilo_mlp(inputs[0], inputs[1] if has_color else None, to(network), inputs[2], config)
            # Both encodings err by 2^-17, 128 roundings in float; five layers of `widest` terms follow on either
            # side, and on the CPU the product of two matrices; gradients go back the same way.
            roundings = 2 * 128 + 2 * 6 * widest
            yield Result(f"y, {name}", y.detach(), roundings)
            grad_y = uniform(n, y.shape[1], low=-1, dtype=dtype, seed=4)
            wanted = inputs if has_color else [inputs[0], inputs[2]]
            *positional, grad_params = torch.autograd.grad(y, wanted, to(grad_y))
            samples = network[network >= 0].bincount(minlength=5).clamp_min(1).to(F64)
            scale = (2 / widest * samples).unsqueeze(1).repeat(1, config.n_params)
            for head in ("w_sigma", "b_sigma", "w_rgb", "b_rgb"):
                config.parts(scale)[head].mul_(widest / 2)
            yield Result(f"dL/dparams, {name}", grad_params, 2 * roundings + n, scale.to(x.device), any_order=True)
            for what, grad, octaves in zip("xd", positional, shape[1:], strict=False):
                # each entry's gradient times its frequency
                yield Result(f"dL/d{what}, {name}", grad, 2 * roundings, 2.0 ** (octaves + 3) / widest)

    return run


def kilo_images(to: Move) -> Iterator[Result]:
    """Rays of several blocks through 3 x 4 x 5 cells, a quarter of them empty, of 20 networks; some meet nothing."""
    n = 700
    for shape, max_samples in (((16, 4, 2), 1024), ((32, 10, 4), 1024), ((48, 0, 3), 9)):
        config = ops.KiloConfig(*shape)
        networks = (uniform(3, 4, 5, seed=3) * 20).int() - 5
        cells = ops.KiloCells(to(networks.clamp_min(-1)), (0.1, 0.15, 0.2), (6.25, 5.7, 6.0))
        params = uniform(15, config.n_params, low=-0.4, high=0.4, seed=1)
        origins = 0.5 + 1.2 * unit_vectors(n, seed=7)
        directions = torch.nn.functional.normalize(uniform(n, 3, low=0.05, high=0.95, seed=8) - origins, dim=1)
        bits = ops.occupancy_bits(uniform(1, 32**3, seed=9), 0.4)
        march = ops.FusedMarch(step_scale=2.0, max_samples=max_samples, jitter=(5, 6))
        image = ops.kilo_render(
            to(params), cells, config, 60.0, *(to(t) for t in (*bits, origins, directions)), march, skip_weight=0.0
        )
        # both encodings err by 2^-17, 128 roundings, which relu(z) * 60 * step carries into each of some hundred
        # opacities; together they stay below 1e-4 of the light (tests/ops/test_kilo_render.py)
        for field, scale in (("rgb", 1.0), ("acc", 1.0), ("depth", 2.0)):
            yield Result(f"{field} of {shape}", getattr(image, field), 1e-4 * 2**24, scale)


def kilo_samples(to: Move) -> Iterator[Result]:
    """What rays of several blocks keep. Networks are nearly constant, empty or thick, so that no rounding decides."""
    n = 1200
    for shape, max_samples in (((16, 4, 2), 1024), ((32, 10, 4), 70), ((48, 0, 3), 9)):
        config = ops.KiloConfig(*shape)
        cells = ops.KiloCells(to((uniform(3, 4, 5, seed=3) * 20).int() - 5), (0.1, 0.15, 0.2), (6.25, 5.7, 6.0))
        params = uniform(15, config.n_params, low=-0.02, high=0.02, seed=1)
        config.parts(params)["b_sigma"].copy_(torch.linspace(-1.0, 1.5, 15)[:, None].roll(4, 0))
        origins = 0.5 + 1.2 * unit_vectors(n, seed=7)
        directions = torch.nn.functional.normalize(uniform(n, 3, low=0.05, high=0.95, seed=8) - origins, dim=1)
        bits = ops.occupancy_bits(uniform(1, 32**3, seed=9), 0.4)
        march = ops.FusedMarch(step_scale=2.0, max_samples=max_samples, jitter=(5, 6), stop_transmittance=0.02)
        tensors = [to(t) for t in (*bits, origins, directions)]
        for capacity in (None, 3000, 0):
            found = ops.kilo_visible(to(params), cells, config, 60.0, *tensors, march, capacity)
            for field, value in found._asdict().items():
                yield Result(f"{field} of {shape}, room for {capacity}", value)


def visible(to: Move) -> Iterator[Result]:
    """Rays of several blocks: short ones, long ones, a cut one, one that is no number; rows that are no ray's."""
    counts = [0, 1, 31, 32, 33, 64, 200, 7] * 70
    inputs = packed_samples(counts)
    inputs["sigmas"] *= 8 * (uniform(sum(counts), seed=5) < 0.6)
    inputs["sigmas"][1000:3000] *= 30
    inputs["sigmas"][700] = math.nan
    sigmas = to(torch.cat([inputs["sigmas"], torch.full((1000,), math.nan)]))
    t_starts, t_ends = (to(torch.cat([inputs[name], torch.zeros(1000)])) for name in ("t_starts", "t_ends"))
    given = torch.tensor([sum(counts), 3, sum(counts) + 50])
    indices = torch.empty(0, dtype=torch.int64)  # are not read
    for n_rays in (len(counts), 256, 257, 0):
        info = to(inputs["packed_info"][:n_rays])
        samples = ops.PackedSamples(info, to(indices), t_starts, t_ends, to(given))
        for stop in (0.01, 0.0):
            n = len(ops.visible_samples(samples, sigmas, stop).t_starts)
            for capacity in (None, n + 300, n, n - 1, n // 2, 0):
                if capacity is not None and capacity < 0:
                    continue
                found = ops.visible_samples(samples, sigmas, stop, capacity)
                for field, value in found._asdict().items():
                    name = f"{field} of {n_rays} rays above {stop}, room for {capacity}"
                    yield Result(name, value, fma_only=True)


CASES = [
    *(
        Case(f"{name}-{str(dtype).removeprefix('torch.')}", make(dtype))
        for name, make in {
            "aabb": aabb,
            "fourier_features": fourier,
            "frequency": frequency,
            "gates": gates,
            "kilo_grid": kilo_cells,
            "kilo_mlp": tiny_networks,
            "modulation": modulation,
            "spherical_harmonics": harmonics,
            "trunc_exp": truncated_exp,
            "wavelet": wavelets,
            "camera": rays,
            "composite": composite,
            "adam": adam,
            "fused_mlp": perceptron,
            "fused_mlp, modulated": modulated_perceptron,
            "hash_grid": grid,
        }.items()
        for dtype in (F32, F64)
    ),
    Case("pixel-uint8", pixels(torch.uint8)),
    Case("pixel-float32", pixels(F32)),
    Case("march-even", march(0.0)),
    Case("march-cone", march(1 / 256)),
    Case("kilo_render", kilo_images),
    Case("kilo_visible", kilo_samples),
    Case("mesh_distance", mesh),
    Case("occupancy", occupancy),
    Case("visible", visible),
    Case("carve", carve),
    Case("carve-large", carve_large),
    Case("depth_fusion", depths),
]
