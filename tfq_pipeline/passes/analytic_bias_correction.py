"""Analytic bias correction (Nagel 2019, arXiv:1906.04721, section 4.2.1 and appendix C): what quantized weights lose of
each channel's mean is (W - V) E[x], with E[x] as batch norm's statistics give it, so that no data is needed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tfq_pipeline.data import Data
from tfq_pipeline.graph.protocol import Graph, Weights
from tfq_pipeline.passes.expectation import expectations, per_patch
from tfq_pipeline.passes.patches import WITH_PATCHES, weight_rows
from tfq_pipeline.plan import Plan


@dataclass(frozen=True, eq=False)
class Corrected:
    """What came of it.

    Attributes:
        graph: the reference with corrected biases.
        layers: those corrected.
        unknown: quantized layers left alone, as nothing is known of what they read.
    """

    graph: Graph
    layers: tuple[str, ...]
    unknown: tuple[str, ...]


def analytic_bias_correction(reference: Graph, plan: Plan, data: Data | None = None) -> Corrected:
    """Corrects the bias of every quantized layer of whose input the mean is known.

    Zeros that pad an input are not thought of, nor is what quantized activations lose.

    Args:
        reference: folded, with the weights that the plan was made for and biases that nothing corrected yet.
        plan: with scales for the weights.
        data: samples to measure means with that batch norm says nothing of.
    """
    known = expectations(reference, data)
    biases: dict[str, Weights] = {}
    unknown = []
    for op in reference.linear_ops():
        planned = plan.weights[op.name]
        if planned.is_float:
            continue
        if op.op not in WITH_PATCHES or op.input not in known:
            unknown.append(op.name)
            continue
        mean = known[op.input].mean
        lost = weight_rows(op, op.kernel.astype(np.float64) - planned.represented(op.kernel), len(mean))
        shift = (lost @ per_patch(op, mean, lost)[..., None]).ravel()
        bias = shift if op.bias is None else op.bias + shift
        biases[op.name] = Weights(op.kernel, bias.astype(np.float32))
    return Corrected(reference.with_weights(biases), tuple(biases), tuple(unknown))
