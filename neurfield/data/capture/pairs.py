# SPDX-License-Identifier: Apache-2.0
"""Which photos to compare in full: all pairs of a few photos, the likely ones of many.

Of many photos the largest features are compared first (preemptive matching: C. Wu, Towards linear-time incremental
structure from motion, 3DV 2013, section 3): pairs that share some of those share many.
"""

import numpy as np

MAX_EXHAUSTIVE = 80  # photos, of which all pairs are compared
N_LARGEST = 200  # features of a photo in the first comparison
N_PARTNERS = 25  # photos that are compared with each in full
N_NEIGHBOURS = 5  # after it in the order of their names, as one walks around a subject
_RATIO = 0.8  # of the distances to the best and the second best feature


def all_pairs(n: int) -> set[tuple[int, int]]:
    return {(i, j) for i in range(n) for j in range(i + 1, n)}


def likely_pairs(scales: list[np.ndarray], descriptors: list[np.ndarray]) -> set[tuple[int, int]]:
    """Pairs `(i, j)`, i < j, of photos that seem to show the same.

    Args:
        scales: of each photo `[n_features]`.
        descriptors: of each photo `[n_features, 128]` uint8.
    """
    n = len(scales)
    if n <= MAX_EXHAUSTIVE:
        return all_pairs(n)
    largest = np.zeros((n, N_LARGEST, 128), np.float32)
    for row, scale, found in zip(largest, scales, descriptors, strict=True):
        chosen = found[np.argsort(-scale, kind="stable")[:N_LARGEST]].astype(np.float32)
        row[: len(chosen)] = chosen / np.maximum(np.linalg.norm(chosen, axis=1, keepdims=True), 1)
    shared = np.stack([_shared(photo, largest) for photo in largest])
    shared = shared + shared.T
    np.fill_diagonal(shared, -1)
    pairs = {(i, j) for i in range(n) for j in range(i + 1, min(i + 1 + N_NEIGHBOURS, n))}
    for i, row in enumerate(shared):
        pairs |= {(min(i, int(j)), max(i, int(j))) for j in np.argsort(-row, kind="stable")[:N_PARTNERS]}
    return pairs


def _shared(photo: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How many of the features `[n_features, 128]` of a photo each of the others has, `[n_photos]`."""
    shared = np.empty(len(others), np.int64)
    features, is_real = np.arange(len(photo)), photo.any(axis=1)
    for i, other in enumerate(others):
        cosines = photo @ other.T
        nearest = cosines.argmax(axis=1)
        best = cosines[features, nearest]
        cosines[features, nearest] = -1
        # of unit vectors the squared distance is 2 - 2 cosine
        shared[i] = ((1 - best) < _RATIO**2 * (1 - cosines.max(axis=1)))[is_real].sum()
    return shared
