"""Layers between activations of few bits, made so that every kernel gives what the plan says.

A step of 4 bits is worth 17 of int8, and what one layer has rounded otherwise the layers behind it magnify. Kernels
round a sum once or twice, by operator and processor (docs/arithmetic.md). But of few bits there are few results and few
sums: scales of weights and biases can be moved by so little that no sum lies where that makes a difference.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tfq_pipeline.graph.protocol import Graph, LinearOp
from tfq_pipeline.numerics.affine import Affine, spread
from tfq_pipeline.numerics.fixed_point import steady_bias
from tfq_pipeline.passes.calibrate import scale_source
from tfq_pipeline.plan import Plan

# Shares by which a scale is moved, the smallest first.
_MOVES = np.arange(1, 51).repeat(2) * np.tile([1e-4, -1e-4], 50)

# Units of a sum: more than float32 is off by.
_LEAST_MARGIN = 0.05


def settled(graph: Graph, plan: Plan) -> Plan:
    """The plan with scales of weights moved by up to half a per cent, their integers kept, in channels that kernels
    would round otherwise than the plan says: those between activations of fewer than 8 bits.

    A channel for which no such scale is found keeps its own.
    """
    tensors, moved = graph.tensors(), {}
    for op in graph.linear_ops():
        planned = plan.weights[op.name]
        ends = [plan.activations.get(scale_source(tensors, name)) for name in (op.input, op.output)]
        source, target = (None if end is None else end.affine for end in ends)
        if op.name in plan.floats or planned.affine is None or planned.affine.axis is None:
            continue
        if source is not None and target is not None and max(source.bits, target.bits) < 8:
            affine = _settled(op, planned.affine, source, target)
            moved[op.name] = replace(planned, affine=affine, values=planned.integers(op.kernel))
    return plan.with_weights(moved)


def _settled(op: LinearOp, weights: Affine, source: Affine, target: Affine) -> Affine:
    scale = weights.scale.copy()
    _, margin = rounded_steadily(op, weights, source, target)
    for share in _MOVES:
        if (left := margin < _LEAST_MARGIN).any():
            tried = np.where(left, weights.scale * np.float32(1.0 + share), scale)
            _, margins = rounded_steadily(op, replace(weights, scale=tried), source, target)
            found = left & (margins >= _LEAST_MARGIN)
            scale, margin = np.where(found, tried, scale), np.where(found, margins, margin)
    return replace(weights, scale=scale)


def rounded_steadily(op: LinearOp, weights: Affine, source: Affine, target: Affine) -> tuple[np.ndarray, np.ndarray]:
    """The bias of a layer between activations of fewer than 8 bits, and its margin, both [channels] as `steady_bias`
    has them."""
    read = spread(source)
    scale = np.broadcast_to(bias_scale(float(read.scale[0]), weights), op.channels)
    bias = (np.zeros(1) if op.bias is None else op.bias.astype(np.float64)) / scale
    zero_point = int(target.zero_point[0])
    lowest, highest = target.qmin - zero_point, target.qmax - zero_point
    return steady_bias(bias, scale / float(target.scale[0]), 1 << (read.bits - source.bits), lowest, highest)


def bias_scale(input_scale: float, weights: Affine) -> np.ndarray:
    """Scale of an integer bias: input scale times weight scale, in float64."""
    return input_scale * weights.scale.astype(np.float64)
