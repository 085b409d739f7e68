# SPDX-License-Identifier: Apache-2.0
"""How long a run lasts, and what follows from how much of that has passed."""

import math
import os
import time
from dataclasses import dataclass, field


def process_age() -> float:
    """Seconds since this process was started; since this module was imported where the system does not say."""
    try:
        with open("/proc/self/stat", encoding="ascii") as stat:
            start_ticks = int(
                stat.read().rpartition(")")[2].split()[19]
            )  # field 22, counted after the name in brackets
        return time.clock_gettime(time.CLOCK_BOOTTIME) - start_ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return time.monotonic() - _IMPORTED


_IMPORTED = time.monotonic()


@dataclass(frozen=True)
class Budget:
    """The end of a run: seconds, iterations, or whichever comes first. At least one is given."""

    max_seconds: float | None = None
    max_num_iterations: int | None = None

    def progress(self, seconds: float, step: int) -> float:
        """Part of the budget that is used, 0 ... 1."""
        parts = [0.0]
        if self.max_seconds is not None:
            parts.append(seconds / self.max_seconds if self.max_seconds > 0 else 1.0)
        if self.max_num_iterations is not None:
            parts.append(step / self.max_num_iterations if self.max_num_iterations > 0 else 1.0)
        return min(max(parts), 1.0)


def learning_rate_factor(progress: float, decay_start: float, final_fraction: float, stages: int = 0) -> float:
    """1 until `decay_start` of the budget, then an exponential fall that reaches `final_fraction` at its end.

    With `stages` the fall is a stair of so many equal drops in equal times, the first of them at `decay_start`.
    """
    if stages and decay_start <= progress < 1:
        fallen = math.floor((progress - decay_start) / (1 - decay_start) * stages + 1) / stages
        return final_fraction**fallen
    if progress <= decay_start:
        return 1.0
    return final_fraction ** ((progress - decay_start) / (1 - decay_start))


@dataclass
class Clock:
    """Seconds that count towards the budget: those of earlier sessions of the run, and of this one without pauses.

    `start` is on time.monotonic's axis; give `time.monotonic() - process_age()` to count from the start of the process.
    """

    start: float = field(default_factory=time.monotonic)
    earlier: float = 0.0
    paused: float = 0.0

    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self.start - self.paused

    def pause(self, since: float) -> None:
        """Leaves the time since `since` (time.monotonic) out, for evaluations in between."""
        self.paused += time.monotonic() - since
