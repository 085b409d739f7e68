# SPDX-License-Identifier: Apache-2.0
"""A whole inference and a whole training step, Adam included, of one field: neurfield beside Dr.Jit and plain torch.

All compute the same field from the same parameters at the same samples: 8213 rays through 8 x 8 pixel blocks of views
from all around, 16 samples a ray, in the order of the rays; instant-ngp's field with 16 x 2 features, T = 2^19. The
density is thin, no ray ends early. The number of rays is odd for Dr.Jit's sake: arrays of a power of two would share
cache sets. neurfield marches the rays through a full occupancy grid; the others are handed the positions.

Each implementation has a process of its own and runs while the others sleep, all of them in each of several rounds: the
speed of a machine drifts. The images of all before and after some steps of training are compared with neurfield's in
single precision. The roof is that of the networks alone at the machine's peak of multiply-adds in the precision of
their products. Dr.Jit needs an LLVM library, see benchmarks/peers/drjit_field.py. The parts have benchmarks of their
own: hash_grid, fused_mlp, fused_radiance.
"""

import importlib
import multiprocessing
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.harness import Row, report, summarise, time_calls
from benchmarks.ops.bench_fused_radiance import FORWARD, TRAINING, training_rays
from benchmarks.peers.field import SHAPES, Problem, Unavailable
from benchmarks.peers.neurfield_field import GRID
from neurfield._native import lib
from tests.cases import uniform

N_RAYS, PER_RAY = 8213, 16
NEAR, SPACING = 1.0625, 2**-9  # distances of samples are floats without rounding
ROUNDS, CHECKED_STEPS = 4, 5
# Colours of a field with bfloat16 activations differ by 0.002; one wrong sign in the harmonics makes it 0.03.
SAME_FIELD = 0.01
# Memory that is freed stays with the process instead of being faulted in again at every step.
TUNED_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 32), "MALLOC_TRIM_THRESHOLD_": str(1 << 32)}


@dataclass(frozen=True)
class Subject:
    name: str
    module: str
    options: dict[str, bool]
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def in_bf16(self) -> bool:
        """Whether its networks multiply in bfloat16."""
        return self.options.get("bf16", self.options.get("bf16_products", self.module == "neurfield_field"))


SUBJECTS = (
    Subject("neurfield, all in 32 bits", "neurfield_field", {"half": False, "bf16_products": False}),
    Subject("neurfield, 32-bit table", "neurfield_field", {"half": False}),
    Subject("neurfield, 16-bit table", "neurfield_field", {"half": True}),
    Subject("Dr.Jit tuned, 32-bit tables", "drjit_field", {"half": False}),
    Subject("Dr.Jit tuned, 16-bit tables", "drjit_field", {"half": True}),
    Subject("torch compiled, bfloat16", "torch_field", {"compiled": True, "bf16": True}, TUNED_MALLOC),
    Subject("torch eager", "torch_field", {"compiled": False, "bf16": False}, TUNED_MALLOC),
)


def make_problem() -> Problem:
    origins, directions = (rays[:N_RAYS] for rays in training_rays(-(-N_RAYS // 64)))
    t = NEAR + SPACING * torch.arange(PER_RAY, dtype=torch.float64)
    positions = (origins[:, None] + t[:, None] * directions[:, None]).float().view(-1, 3)
    shapes = enumerate(SHAPES.items())
    weights = {name: uniform(*shape, low=-1, seed=i) * (6 / sum(shape)) ** 0.5 for i, (name, shape) in shapes}
    weights["d1"][0] = weights["d1"][0].abs() * 6  # optical depths of 0.1 to 2
    return Problem(
        origins=origins.numpy(),
        directions=directions.numpy(),
        near=NEAR,
        spacing=SPACING,
        positions=positions.numpy(),
        target=(0.15 + 0.1 * torch.sin(4 * directions)).numpy(),
        levels=[(level.scale, level.resolution, level.n_entries) for level in GRID.levels()],
        table=uniform(GRID.n_params // 2, 2, low=-0.5, high=0.5).numpy(),
        weights={name: matrix.numpy() for name, matrix in weights.items()},
    )


def serve(connection: Connection, module: str, options: dict[str, bool]) -> None:
    """The process of one implementation: images before and after training, then seconds of the calls asked for."""
    problem = connection.recv()
    try:
        steps = importlib.import_module(f"benchmarks.peers.{module}").steps(problem, **options)
    except Unavailable as error:
        connection.send(error)
        return
    images = [steps.image()]
    if steps.train:
        for _ in range(CHECKED_STEPS):
            steps.train()
        images.append(steps.image())
    connection.send(images)
    while name := connection.recv():
        call = getattr(steps, name)
        connection.send(time_calls(call, seconds=0.5, warmup=1, at_least=2) if call else [])


class Worker:
    """An implementation in its process. Raises Unavailable where there is none."""

    def __init__(self, subject: Subject, problem: Problem):
        self.name, self.in_bf16 = subject.name, subject.in_bf16
        self.seconds: dict[str, list[float]] = {"infer": [], "train": []}
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(theirs, subject.module, subject.options), daemon=True)
        with environment(subject.environment):
            self.process.start()
        theirs.close()
        self.images: list[np.ndarray] = self.ask(problem)

    def ask(self, what: object):
        try:
            self.connection.send(what)
            answer = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            raise Unavailable(f"its process ended with exit code {self.process.exitcode}") from None
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    def measure(self) -> None:
        for name, times in self.seconds.items():
            times += self.ask(name)

    def end(self) -> None:
        self.connection.send(None)
        self.process.join()


@contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def other_seconds(pids: list[int]) -> float:
    """CPU time since boot that none of these processes took; 0 where the system does not tell."""

    def ticks(path: str, *places: int) -> int:
        words = Path(path).read_text().rsplit(")", 1)[-1].split()
        return sum(int(words[place]) for place in places)

    if not Path("/proc/stat").exists():
        return 0.0
    used = ticks("/proc/stat", 1, 2, 3, 6, 7, 8)  # all but idle and waiting
    return (used - sum(ticks(f"/proc/{pid}/stat", 11, 12) for pid in pids)) / os.sysconf("SC_CLK_TCK")


def differences(worker: Worker, reference: Worker) -> list[float]:
    """Largest difference of the colours before and after training; raises if this is another field."""
    pairs = zip(worker.images, reference.images, strict=False)
    found = [float(np.abs(a - b).max()) for a, b in pairs]
    if not max(found) < SAME_FIELD:
        raise RuntimeError(f"{worker.name} computes another field than {reference.name}: colours differ by {found}")
    return found


def rows_of(
    what: str, call: str, roofs: tuple[float, float], workers: list[Worker], notes: list[str]
) -> tuple[list[Row], dict]:
    """Rows of all that have such a call, and how many times as fast as each peer neurfield is.

    `roofs` are those of products in float32 and in bfloat16.
    """
    n_samples = N_RAYS * PER_RAY
    timings = [(w, summarise(w.seconds[call]), note) for w, note in zip(workers, notes, strict=True) if w.seconds[call]]
    rates = {worker.name: n_samples / timing.median / 1e6 for worker, timing, _ in timings}
    ours = [name for name in rates if name.startswith("neurfield")]
    ratios = {f"{name} / {peer}": rates[name] / rates[peer] for peer in rates if peer not in ours for name in ours}
    rows = []
    for worker, timing, note in timings:
        if worker.name not in ours:
            factors = " and ".join(f"{ratios[f'{name} / {worker.name}']:.2f}" for name in ours)
            note = f"neurfield {factors} times as fast; {note}"
        rows.append(
            Row(f"{what}: {worker.name}", rates[worker.name], "Ms/s", timing.spread, roofs[worker.in_bf16], note)
        )
    return rows, ratios


def main() -> None:
    problem = make_problem()
    workers: list[Worker] = []
    found: list[list[float]] = []
    for subject in SUBJECTS:
        try:
            workers.append(Worker(subject, problem))
            found.append(differences(workers[-1], workers[0]))
        except Unavailable as reason:
            print(f"{subject.name} is left out: {reason}")
    pids = [os.getpid(), *(worker.process.pid for worker in workers)]
    start, before, peaks, bf16_peaks = time.perf_counter(), other_seconds(pids), [], []
    for _ in range(ROUNDS):
        peaks.append(lib.measure_fma_peak(0.2))
        bf16_peaks.append(lib.measure_bf16_peak(0.2) or peaks[-1])
        for worker in workers:
            worker.measure()
    others = (other_seconds(pids) - before) / (time.perf_counter() - start) / (os.cpu_count() or 1)
    for worker in workers:
        worker.end()

    rows = [
        Row(f"{name} peak", median(all_), "GFLOP/s", (max(all_) - min(all_)) / median(all_), note=note)
        for name, all_, note in (("FMA", peaks, "registers only, all threads"), ("bfloat16", bf16_peaks, "the same"))
    ]
    rows += [
        Row("taken by other processes", 100 * others, "%", note="above 3, measure again"),
    ]
    moved = float(np.abs(workers[0].images[1] - workers[0].images[0]).max())
    notes = [f"colours within {values[0]:.1g}" for values in found]
    trained = [f"after {CHECKED_STEPS} steps within {values[-1]:.1g} of a change of {moved:.2g}" for values in found]
    notes[0] = trained[0] = "the reference of the colours"

    def roofs(n_multiplications: int) -> tuple[float, float]:
        return median(peaks) / (2e-3 * n_multiplications), median(bf16_peaks) / (2e-3 * n_multiplications)

    inference, infer_ratios = rows_of("inference", "infer", roofs(FORWARD), workers, notes)
    training, train_ratios = rows_of("training step", "train", roofs(TRAINING), workers, trained)
    title = f"Whole field, {N_RAYS} rays of {PER_RAY} samples (roof: the networks alone at their peak)"
    report("field", title, rows + inference + training, {"ratios": {"infer": infer_ratios, "train": train_ratios}})


if __name__ == "__main__":
    main()
