"""Which weights of a layer stay when the others become 0.

Magnitude (Han 2015, arXiv:1506.02626), N of M (Mishra 2021, arXiv:2104.08378), blocks (Narang 2017, arXiv:1711.02782),
and one threshold for many layers (LAMP: Lee 2021, arXiv:2010.07611). Masks are bool, True where a weight stays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def largest(scores: np.ndarray, share: float) -> np.ndarray:
    """Keeps the largest scores of all.

    Args:
        scores: any shape, not negative.
        share: of them that go, 0 to 1; rounded down to whole ones. Of equal scores the first go.

    Returns:
        bool, the shape of the scores.
    """
    mask = np.ones(scores.size, bool)
    mask[np.argsort(scores, axis=None, kind="stable")[: int(share * scores.size)]] = False
    return mask.reshape(scores.shape)


def n_of_m(scores: np.ndarray, n: int, m: int) -> np.ndarray:
    """Keeps the n largest of every m neighbours along the last axis.

    Args:
        scores: [..., values], values a multiple of m.
        n, m: 0 < n < m.

    Returns:
        bool, the shape of the scores.
    """
    groups = scores.reshape(-1, m)
    mask = np.zeros(groups.shape, bool)
    np.put_along_axis(mask, np.argsort(-groups, axis=1, kind="stable")[:, :n], True, axis=1)
    return mask.reshape(scores.shape)


def block_means(scores: np.ndarray, size: int) -> np.ndarray:
    """The mean of every `size` neighbours along the last axis, in the place of each of them.

    Args:
        scores: [..., values], values a multiple of `size`.
        size: of a block.

    Returns:
        float64, the shape of the scores.
    """
    means = scores.reshape(*scores.shape[:-1], -1, size).mean(axis=-1, dtype=np.float64)
    return np.repeat(means, size, axis=-1)


def lamp(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Scores that can be compared between layers: a weight's square over the squares of those at least as large.

    Args:
        weights: by layer, any shape.

    Returns:
        float64 in 0 to 1, the shapes of the weights.
    """
    found = {}
    for name, values in weights.items():
        squares = np.square(values, dtype=np.float64).ravel()
        order = np.argsort(squares, kind="stable")
        beyond = np.cumsum(squares[order][::-1])[::-1]
        scores = np.empty_like(squares)
        scores[order] = squares[order] / np.maximum(beyond, np.finfo(np.float64).tiny)
        found[name] = scores.reshape(values.shape)
    return found
