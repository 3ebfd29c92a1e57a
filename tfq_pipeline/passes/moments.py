"""Second moments of what a linear operator reads: all that layer-wise reconstruction needs to know of the data.

With x a patch of the float model's input and y the same patch in the quantized model, the error of quantized weights
V against float weights W, the mean of |V y - W x|^2, is the quadratic tr(V A V') - 2 tr(V B W') + constant with
A = E[y y'] and B = E[y x']. Its best real-valued weights are W B' A^-1, and around them only A counts. So the
techniques that choose integers (GPTQ, QuantEase, AdaRound) run on A alone, on any number of samples in constant memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.protocol import Graph, LinearOp
from tfq_pipeline.passes.patches import count_patches, patches, weight_rows

# Patches of one batch that are looked at: neighbouring ones of an image overlap and tell little more.
_PATCHES = 4096

# Above it squares of float32 overflow once they are added.
_WIDE = 1e15

# Added to the diagonal of A, as a share of its mean: patches that never vary leave A singular (Frantar 2023).
DAMPING = 0.01


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of one operator's patches, float64.

    Attributes:
        count: patches seen.
        channels: of the operator's input.
        a: E[y y'], [groups, values, values].
        b: E[y x'], [groups, values, values].
        mean_x, mean_y: [groups, values].
    """

    count: int
    channels: int
    a: np.ndarray
    b: np.ndarray
    mean_x: np.ndarray
    mean_y: np.ndarray

    def damped(self) -> np.ndarray:
        """A with `DAMPING` of its mean diagonal added: positive definite also for inputs that are always 0."""
        values = self.a.shape[-1]
        diagonal = np.einsum("gkk->g", self.a) / values
        return self.a + (DAMPING * np.maximum(diagonal, 1e-12))[:, None, None] * np.eye(values)

    def target(self, op: LinearOp) -> np.ndarray:
        """The real-valued weights to quantize: those that undo, as far as weights can, what came before.

        Returns:
            float64 [groups, outputs, values].
        """
        rows = weight_rows(op, op.kernel, self.channels).astype(np.float64)
        lost = rows @ (self.b.transpose(0, 2, 1) - self.a)
        return rows + np.linalg.solve(self.damped(), lost.transpose(0, 2, 1)).transpose(0, 2, 1)


def moments(
    ops: Sequence[LinearOp], before: Graph, after: Graph, data: Data, rng: np.random.Generator
) -> Mapping[str, Moments]:
    """Moments of the inputs of several operators, by operator name, in one pass over the data.

    Args:
        ops: the operators, all of kinds that patches are made for.
        before: the float graph.
        after: the same graph with what is quantized so far; may be `before` itself.
        data: samples.
        rng: picks patches where a batch has more than enough.

    Raises:
        BadInput: for data without samples.
    """
    names = tuple(dict.fromkeys(op.input for op in ops))
    found: dict[str, Moments] = {}
    floats = before.capture(names, data)
    pairs = ((v, v) for v in floats) if after is before else zip(floats, after.capture(names, data), strict=True)
    for x, y in pairs:
        for op in ops:
            new = _of_batch(op, x[op.input], y[op.input], rng)
            found[op.name] = _joined(found[op.name], new) if op.name in found else new
    if not found:
        raise BadInput(f"calibration data {data.name}: found no samples; give at least one, 100 to 1000 are usual")
    return found


def _of_batch(op: LinearOp, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> Moments:
    count = count_patches(op, x)
    chosen = np.sort(rng.choice(count, _PATCHES, replace=False)) if count > _PATCHES else None
    count = min(count, _PATCHES)
    rows_x = patches(op, x, chosen)
    rows_y = rows_x if y is x else patches(op, y, chosen)
    if max(np.abs(rows).max(initial=0.0) for rows in (rows_x, rows_y)) > _WIDE:
        rows_x, rows_y = rows_x.astype(np.float64), rows_y.astype(np.float64)
    across = rows_y.transpose(0, 2, 1)
    a = (across @ rows_y).astype(np.float64) / count
    b = a if rows_y is rows_x else (across @ rows_x).astype(np.float64) / count
    mean_x, mean_y = (rows.mean(axis=1, dtype=np.float64) for rows in (rows_x, rows_y))
    return Moments(count, x.shape[-1], a, b, mean_x, mean_y)


def _joined(old: Moments, new: Moments) -> Moments:
    count = old.count + new.count
    share = new.count / count
    mixed = [(1.0 - share) * left + share * right for left, right in zip(_arrays(old), _arrays(new), strict=True)]
    return Moments(count, old.channels, *mixed)


def _arrays(m: Moments) -> tuple[np.ndarray, ...]:
    return m.a, m.b, m.mean_x, m.mean_y
