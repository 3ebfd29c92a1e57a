"""GPTQ (Frantar 2023, arXiv:2210.17323): quantizes a layer's inputs one after the other, and lets the weights that are
still real make up for the error of each."""

from __future__ import annotations

import numpy as np

_BLOCK = 128


def gptq(
    target: np.ndarray, scale: np.ndarray, a: np.ndarray, low: np.ndarray | int, high: np.ndarray | int
) -> np.ndarray:
    """Integers of a layer's weights, inputs with the largest second moment first.

    Args:
        target: real weights, float64 [groups, outputs, values].
        scale: float64, broadcast to the target.
        a: second moments of the input, float64 [groups, values, values], positive definite.
        low, high: the integers allowed, broadcast to the target.

    Returns:
        int8 [groups, outputs, values].
    """
    scale, low, high = (np.broadcast_to(of, target.shape) for of in (scale, low, high))
    return np.stack([_group(*part) for part in zip(target, scale, a, low, high, strict=True)])


def _group(target: np.ndarray, scale: np.ndarray, a: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    order = np.argsort(-np.diag(a))
    scales, least, most = scale[:, order], low[:, order], high[:, order]
    weights = target[:, order].copy()
    # The upper Cholesky factor of the inverse holds in row k what an error at k does to the values after it.
    upper = np.linalg.cholesky(np.linalg.inv(a[np.ix_(order, order)])).T
    values = weights.shape[1]
    chosen = np.empty(weights.shape)
    for begin in range(0, values, _BLOCK):
        end = min(begin + _BLOCK, values)
        errors = np.empty((weights.shape[0], end - begin))
        for k in range(begin, end):
            chosen[:, k] = np.clip(np.rint(weights[:, k] / scales[:, k]), least[:, k], most[:, k])
            error = (weights[:, k] - chosen[:, k] * scales[:, k]) / upper[k, k]
            weights[:, k:end] -= error[:, None] * upper[k, k:end]
            errors[:, k - begin] = error
        weights[:, end:] -= errors @ upper[begin:end, end:]
    result = np.empty_like(chosen)
    result[:, order] = chosen
    return result.astype(np.int8)
