# SPDX-License-Identifier: Apache-2.0
"""The benchmark's field in Dr.Jit on LLVM, tuned: the fastest way known to us to run it with a public tool on a CPU.

Inference is one kernel per hash level (its table stays in the cache) and one cooperative-vector kernel for both MLPs,
frozen. Training keeps one table per level with expanded gathers (their adjoint scatters without atomics), runs the
MLPs and their input gradients as cooperative vectors and the weight gradients as matrix products: the cooperative
vectors' own training path is about three times slower on a CPU.

Needs `pip install drjit` and an LLVM library: 16 or 19; 15 aborts (DRJIT_LIBLLVM_PATH names it). The number of samples
should not be a power of two: the arrays of the features would fall onto the same sets of the cache.
"""

import numpy as np

from benchmarks.peers.field import BETAS, EPSILON, LEARNING_RATE, Problem, Steps, Unavailable
from benchmarks.peers.torch_field import PRIMES

try:
    import drjit as dr
except ImportError as error:
    raise Unavailable("drjit is not installed") from error
if not dr.has_backend(dr.JitBackend.LLVM):
    raise Unavailable("Dr.Jit finds no LLVM library; DRJIT_LIBLLVM_PATH can name one")

from drjit import nn
from drjit.llvm.ad import Array2f, Array2f16, Array3f, ArrayXf, Float, Float16, TensorXf
from drjit.opt import Adam

SH4_DEGREE = 3  # Dr.Jit counts from 0


class DrJitField:
    """The model of benchmarks.peers.torch_field.TorchField; half-precision tables for inference when `half`."""

    def __init__(self, problem: Problem, half: bool):
        dr.set_expand_threshold(2**26)
        self.levels = problem.levels
        self.half = half
        parts = np.split(problem.table, np.cumsum([n for _, _, n in self.levels])[:-1])
        self.tables = [Float(part.ravel()) for part in parts]
        self.weights = {name: TensorXf(matrix) for name, matrix in problem.weights.items()}
        dr.eval(self.tables, self.weights)

    def encode_level(self, level: int, table, x: Array3f, mode=dr.ReduceMode.Auto) -> Array2f:
        """Trilinear interpolation in one level; `table` is flat, two features per entry."""
        scale, resolution, n_entries = self.levels[level]
        position = dr.fma(x, scale, 0.5)
        cell = dr.floor(position)
        fraction = position - cell
        low = dr.uint32_array_t(Array3f)(cell)
        result = Array2f(0)
        packet = Array2f16 if dr.is_half_v(table) else Array2f
        for corner in range(8):
            bit = [corner >> i & 1 for i in range(3)]
            v = [low[i] + bit[i] for i in range(3)]
            if resolution**3 <= n_entries:
                index = v[0] + resolution * (v[1] + resolution * v[2])
                index = dr.select(index >= n_entries, index - n_entries, index)
            else:
                index = (v[0] ^ v[1] * PRIMES[1] ^ v[2] * PRIMES[2]) & (n_entries - 1)
            w = [fraction[i] if bit[i] else 1 - fraction[i] for i in range(3)]
            value = Array2f(dr.gather(packet, table, index, mode=mode))
            result = dr.fma(value, w[0] * w[1] * w[2], result)
        return result

    def directions(self, d: Array3f) -> list[Float]:
        return dr.sh_eval(d, SH4_DEGREE)


def inference(field: DrJitField, problem: Problem):
    """A callable that evaluates and composites all samples; everything stays in Dr.Jit arrays."""
    dtype = Float16 if field.half else Float
    tables = [dtype(table) for table in field.tables]
    views = nn.pack(*field.weights.values(), layout="inference")
    position, direction = samples(problem)
    dr.eval(tables, [view.buffer for view in views], position, direction)

    @dr.freeze
    def networks(features, direction, views):
        d0, d1, c0, c1, c2 = views
        latent = nn.matvec(d1, dr.maximum(nn.matvec(d0, nn.CoopVec(*features)), 0))
        hidden = dr.maximum(nn.matvec(c0, nn.CoopVec(*latent, *field.directions(direction))), 0)
        rgb = list(nn.matvec(c2, dr.maximum(nn.matvec(c1, hidden), 0)))
        return dr.exp(next(iter(latent))), [dr.rcp(1 + dr.exp(-c)) for c in rgb]

    @dr.freeze
    def encode(tables, position):
        outputs = []
        for level, table in enumerate(tables):
            value = field.encode_level(level, table, position)
            dr.eval(value)
            outputs += [value.x, value.y]
        return outputs

    def infer():
        features = encode(tables, position)
        sigma, rgb = networks(features, direction, list(views))
        colour = composite(sigma, rgb, problem)
        dr.eval(colour)
        dr.sync_thread()
        return colour

    return infer


def samples(problem: Problem) -> tuple[Array3f, Array3f]:
    return Array3f(problem.positions.T.copy()), Array3f(problem.sample_directions.T.copy())


def composite(sigma, rgb, problem: Problem) -> list:
    """Colours [3][n_rays]."""
    optical = sigma * problem.spacing
    before = dr.block_prefix_reduce(dr.ReduceOp.Add, optical, problem.per_ray, exclusive=True)
    weight = dr.exp(-before) * (1 - dr.exp(-optical))
    return [dr.block_sum(weight * channel, problem.per_ray) for channel in rgb]


def training(field: DrJitField, problem: Problem):
    """A callable that does one whole training step, Adam included; `field` follows."""
    optimizer = Adam(lr=LEARNING_RATE, beta_1=BETAS[0], beta_2=BETAS[1], epsilon=EPSILON)
    for level, table in enumerate(field.tables):
        optimizer[f"t{level}"] = table
    for name, weight in field.weights.items():
        optimizer[name] = weight
    position, direction = samples(problem)
    goal = [Float(problem.target[:, c].copy()) for c in range(3)]
    harmonics = field.directions(direction)
    dr.eval(position, goal, harmonics)

    def rows(values: list) -> TensorXf:
        return TensorXf(dr.ravel(ArrayXf(values), order="C"), (len(values), len(problem.positions)))

    def step():
        tables = [optimizer[f"t{level}"] for level in range(len(field.levels))]
        features = []
        for level, table in enumerate(tables):
            features.append(field.encode_level(level, table, position, dr.ReduceMode.Expand))
            dr.eval(features[-1])
        inputs = [dr.detach(v) for pair in features for v in pair]
        views = nn.pack(*(dr.detach(optimizer[name]) for name in field.weights), layout="inference")
        d0, d1, c0, c1, c2 = views
        h0 = dr.maximum(nn.matvec(d0, nn.CoopVec(*inputs)), 0)
        latent = nn.matvec(d1, h0)
        mixed = [*latent, *harmonics]
        h1 = dr.maximum(nn.matvec(c0, nn.CoopVec(*mixed)), 0)
        h2 = dr.maximum(nn.matvec(c1, h1), 0)
        raw = list(nn.matvec(c2, h2))
        h0, h1, h2, latent = list(h0), list(h1), list(h2), list(latent)
        dr.eval(h0, h1, h2, latent, raw)

        for value in (*raw, latent[0]):
            dr.enable_grad(value)
        rgb = [dr.rcp(1 + dr.exp(-c)) for c in raw]
        colour = composite(dr.exp(latent[0]), rgb, problem)
        loss = sum((dr.mean(dr.square(c - g)) for c, g in zip(colour, goal, strict=True)), start=Float(0)) / 3
        dr.backward(loss)
        g_raw, g_sigma = [dr.grad(c) for c in raw], dr.grad(latent[0])
        dr.eval(g_raw, g_sigma)

        g2 = [
            dr.select(h > 0, g, 0) for h, g in zip(h2, nn.matvec(c2, nn.CoopVec(*g_raw), transpose=True), strict=True)
        ]
        g1 = [dr.select(h > 0, g, 0) for h, g in zip(h1, nn.matvec(c1, nn.CoopVec(*g2), transpose=True), strict=True)]
        g_latent = list(nn.matvec(c0, nn.CoopVec(*g1), transpose=True))[:16]
        g_latent[0] += g_sigma
        g0 = [
            dr.select(h > 0, g, 0)
            for h, g in zip(h0, nn.matvec(d1, nn.CoopVec(*g_latent), transpose=True), strict=True)
        ]
        g_in = list(nn.matvec(d0, nn.CoopVec(*g0), transpose=True))
        dr.eval(g2, g1, g_latent, g0, g_in)

        pairs = {
            "d0": (g0, inputs),
            "d1": (g_latent, h0),
            "c0": (g1, [dr.detach(v) for v in mixed]),
            "c1": (g2, h1),
            "c2": (g_raw, h2),
        }
        for name, (gradient, activations) in pairs.items():
            dr.set_grad(optimizer[name], dr.matmul(rows(gradient), rows([dr.detach(a) for a in activations]), Bt=True))
        for level, value in enumerate(features):
            dr.set_grad(value, Array2f(g_in[2 * level], g_in[2 * level + 1]))
            dr.enqueue(dr.ADMode.Backward, value)
        dr.traverse(dr.ADMode.Backward)
        optimizer.step()
        dr.eval(optimizer)
        dr.sync_thread()
        field.tables = [dr.detach(optimizer[f"t{level}"]) for level in range(len(field.levels))]
        field.weights = {name: dr.detach(optimizer[name]) for name in field.weights}

    return step


def steps(problem: Problem, half: bool) -> Steps:
    """`half`: the tables of inference; training keeps single precision."""
    field = DrJitField(problem, half)

    def image() -> np.ndarray:
        return np.stack([np.array(channel) for channel in inference(field, problem)()], axis=1)

    return Steps(inference(field, problem), None if half else training(field, problem), image)
