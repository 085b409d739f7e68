# SPDX-License-Identifier: Apache-2.0
"""The counter-based random numbers of csrc/core/rng.h in plain integers: two rounds of SplitMix64's finaliser."""

MASK = 2**64 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(z: int) -> int:
    z = ((z ^ z >> 30) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ z >> 27) * 0x94D049BB133111EB) & MASK
    return z ^ z >> 31


def random_u32(stream: int, index: int, dimension: int) -> int:
    """0 ... 2^32 - 1, a function of its arguments alone."""
    a = mix64((stream + GOLDEN * (index + 1)) & MASK)
    return mix64((a + GOLDEN * (dimension + 1)) & MASK) >> 32


def random_stream(seed: int, step: int, purpose: int) -> int:
    """The stream of one consumer of random numbers in one step."""
    z = mix64((seed + GOLDEN * (step + 1)) & MASK)
    return mix64((z + 0xD1B54A32D192ED03 * (purpose + 1)) & MASK)


def random_below(stream: int, index: int, dimension: int, n: int) -> int:
    """0 ... n - 1."""
    return random_u32(stream, index, dimension) * n >> 32
