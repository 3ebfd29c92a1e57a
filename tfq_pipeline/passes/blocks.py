"""Blocks of a graph: the parts that block-wise reconstruction works on (Li 2021, arXiv:2102.05426, section 3.2).

A residual block is everything between a sum and the tensor that all its branches come from; what is left falls into
short chains, at most an expansion, a depthwise convolution and a projection long. Inside a block there are linear
operators and sums alone, so that TensorFlow can compute it, with gradients, for every backend of `Graph`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfq_pipeline.graph.protocol import Graph, LinearOp, Tensor
from tfq_pipeline.passes.expectation import CLIPPED

_LONGEST_CHAIN = 3


@dataclass(frozen=True, eq=False)
class Block:
    """A part of a graph with one input and one output.

    Attributes:
        input, output: names of the tensors.
        steps: the tensors that it computes, in execution order, the output last.
        ops: its linear operators by the tensor they write, in execution order.
    """

    input: str
    output: str
    steps: tuple[Tensor, ...]
    ops: Mapping[str, LinearOp]

    def run(self, x: Any, weights: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
        """What it computes for an input [batch, ...], with TensorFlow: all tensors by name, the input too.

        Args:
            x: float32.
            weights: kernel in TFLite layout and bias, by operator name.
        """
        import tensorflow as tf

        values = {self.input: x}
        for step in self.steps:
            op = self.ops.get(step.name)
            if op is None:
                y = tf.add_n([values[name] for name in step.reads])
            else:
                kernel, bias = weights[op.name]
                y = _COMPUTE[op.op](op, values[op.input], kernel) + bias
            low, high = CLIPPED[step.activation]
            values[step.name] = tf.clip_by_value(y, low, high)
        return values


def _convolution(op: LinearOp, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    filters = tf.transpose(kernel, (1, 2, 3, 0))
    return tf.nn.conv2d(x, filters, op.strides, op.padding, dilations=op.dilations)


def _depthwise(op: LinearOp, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    filters = tf.reshape(kernel, (*op.kernel.shape[1:3], x.shape[-1], -1))
    return tf.nn.depthwise_conv2d(x, filters, (1, *op.strides, 1), op.padding, dilations=op.dilations)


def _dense(op: LinearOp, x: Any, kernel: Any) -> Any:
    import tensorflow as tf

    return tf.linalg.matmul(x, kernel, transpose_b=True)


_COMPUTE: Mapping[str, Callable[[LinearOp, Any, Any], Any]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _dense,
}


def blocks_of(graph: Graph) -> tuple[Block, ...]:
    """All blocks in execution order; operators that TensorFlow would not compute alike are in none."""
    tensors = {t.name: t for t in graph.tensors()}
    ops = {op.output: op for op in graph.linear_ops() if _computable(op, tensors)}
    finder = _Finder(tensors, ops, list(tensors), _readers(tensors, graph.outputs))
    found: list[Block] = []
    taken: set[str] = set()
    for name in tensors:
        block = finder.residual(name) if tensors[name].op == "ADD" else None
        if block is not None and not taken & set(block.ops):
            found.append(block)
            taken |= set(block.ops)
    for name in ops:
        if name not in taken:
            block = finder.chain(name, taken)
            found.append(block)
            taken |= set(block.ops)
    return tuple(sorted(found, key=lambda block: finder.order.index(block.output)))


def _readers(tensors: Mapping[str, Tensor], outputs: tuple[str, ...]) -> dict[str, list[str]]:
    """Tensors that are computed from each; leaving the model counts as one more reader."""
    readers: dict[str, list[str]] = {name: [""] * (name in outputs) for name in tensors}
    for tensor in tensors.values():
        for source in tensor.reads:
            readers[source].append(tensor.name)
    return readers


def _computable(op: LinearOp, tensors: Mapping[str, Tensor]) -> bool:
    if op.op not in _COMPUTE or op.activation not in CLIPPED or op.output not in tensors or op.input not in tensors:
        return False
    shape = tensors[op.input].shape
    if op.op == "FULLY_CONNECTED":
        return len(shape) >= 1 and len(tensors[op.output].shape) == len(shape)
    plain = len(shape) == 3 and op.padding in ("SAME", "VALID")
    if op.op == "DEPTHWISE_CONV_2D":
        return plain and op.strides[0] == op.strides[1] and (op.dilations == (1, 1) or op.strides == (1, 1))
    return plain and op.kernel.shape[-1] == shape[-1]


@dataclass(frozen=True, eq=False)
class _Finder:
    tensors: Mapping[str, Tensor]
    ops: Mapping[str, LinearOp]
    order: list[str]
    readers: Mapping[str, list[str]]

    def residual(self, name: str) -> Block | None:
        """The block that ends in a sum: back from it, the latest tensor first, until one tensor is left to read."""
        if not self._is_sum(name):
            return None
        inner, entry = {name}, set(self.tensors[name].reads)
        while len(entry) > 1:
            latest = max(entry, key=self.order.index)
            if not (latest in self.ops or self._is_sum(latest)) or not set(self.readers[latest]) <= inner:
                return None
            inner.add(latest)
            entry = (entry - {latest}) | set(self.tensors[latest].reads)
        return self._block(entry.pop(), inner)

    def _is_sum(self, name: str) -> bool:
        tensor = self.tensors[name]
        return tensor.op == "ADD" and len(tensor.reads) > 1 and tensor.activation in CLIPPED

    def chain(self, name: str, taken: set[str]) -> Block:
        """The chain that begins with an operator: it goes on behind an activation while one operator alone reads it,
        and has one depthwise convolution at most."""
        names = [name]
        while len(names) < _LONGEST_CHAIN and self.ops[names[-1]].activation is not None:
            following = self.readers[names[-1]]
            if len(following) != 1 or following[0] not in self.ops or following[0] in taken:
                break
            if [self.ops[n].op for n in (*names, following[0])].count("DEPTHWISE_CONV_2D") > 1:
                break
            names.append(following[0])
        return self._block(self.ops[name].input, set(names))

    def _block(self, entry: str, inner: set[str]) -> Block:
        steps = tuple(self.tensors[name] for name in self.order if name in inner)
        return Block(entry, steps[-1].name, steps, {s.name: self.ops[s.name] for s in steps if s.name in self.ops})
