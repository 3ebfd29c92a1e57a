"""Codebooks: a few values that stand for all, found by k-means (Han 2016, Deep Compression, arXiv:1510.00149)."""

from __future__ import annotations

import numpy as np

_MOST_ROUNDS = 300


def kmeans(values: np.ndarray, count: int) -> np.ndarray:
    """Centroids of the least squared error near a start that is even between the extremes (section 3.2: large values,
    which are few, keep centroids of their own).

    A centroid that no value is nearest to stays where it was.

    Args:
        values: of any shape, finite.
        count: of the centroids.

    Returns:
        float64 [count], ascending.

    Raises:
        ValueError: for no values or no centroids.
    """
    x = np.sort(np.asarray(values, np.float64), axis=None)
    if not x.size or count < 1:
        raise ValueError(f"cannot find {count} centroids of {x.size} values")
    centroids = np.linspace(x[0], x[-1], count)
    sums = np.concatenate([[0.0], np.cumsum(x)])
    for _ in range(_MOST_ROUNDS):
        # Values between two limits belong to one centroid.
        ends = np.concatenate([[0], np.searchsorted(x, (centroids[1:] + centroids[:-1]) / 2, "right"), [x.size]])
        counts, totals = np.diff(ends), np.diff(sums[ends])
        moved = np.where(counts > 0, totals / np.maximum(counts, 1), centroids)
        if np.array_equal(moved, centroids):
            break
        centroids = moved
    return np.asarray(centroids)
