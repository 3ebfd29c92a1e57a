"""The numpy oracle bit for bit against the runtime's kernels, each path with its rounding (docs/arithmetic.md)."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from tests.unit.numerics.one_op import OPS, OneOp, random_op

REFERENCE = OpResolverType.BUILTIN_REF
OPTIMIZED = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
SAMPLES = 24


def run(case: OneOp, resolver: OpResolverType, model: bytes | None = None) -> np.ndarray:
    content = model or case.model()
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=resolver, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], case.x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def cases(op: str, bits: int) -> list[OneOp]:
    rng = np.random.default_rng([bits, OPS.index(op)])
    return [random_op(rng, op, bits, per_channel=i % 2 == 0) for i in range(SAMPLES)]


def optimized_depthwise(case: OneOp) -> np.ndarray:
    """Whole blocks of 8 output channels go through SIMD, which rounds halves upward, the rest does not."""
    expected = case.expected("double")
    blocked = expected.shape[3] // 8 * 8
    expected[..., :blocked] = case.expected("double_upward")[..., :blocked]
    return expected


@pytest.mark.parametrize("bits", [4, 8])
def test_reference_conv2d_rounds_twice(bits):
    for case in cases("conv2d", bits):
        np.testing.assert_array_equal(run(case, REFERENCE), case.expected("double"))


@pytest.mark.parametrize("bits", [4, 8])
def test_reference_fully_connected_rounds_once(bits):
    for case in cases("fully_connected", bits):
        np.testing.assert_array_equal(run(case, REFERENCE), case.expected("single"))


def test_reference_depthwise_conv2d_rounds_twice():
    # The reference resolver knows DEPTHWISE_CONV_2D up to version 6, and so no int4 weights.
    for case in cases("depthwise_conv2d", 8):
        model = schema.ModelT.InitFromPackedBuf(case.model(), 0)
        model.operatorCodes[0].version = 6
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), b"TFL3")
        np.testing.assert_array_equal(run(case, REFERENCE, bytes(builder.Output())), case.expected("double"))


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("op", ["conv2d", "fully_connected"])
def test_optimized_conv2d_and_fully_connected_round_upward(op, bits):
    for case in cases(op, bits):
        np.testing.assert_array_equal(run(case, OPTIMIZED), case.expected("double_upward"))


@pytest.mark.parametrize("bits", [4, 8])
def test_optimized_depthwise_conv2d_rounds_upward_in_blocks_of_eight(bits):
    for case in cases("depthwise_conv2d", bits):
        np.testing.assert_array_equal(run(case, OPTIMIZED), optimized_depthwise(case))


@pytest.mark.parametrize("op", OPS)
def test_roundings_differ_on_these_samples(op):
    drawn = cases(op, 4)
    for one, other in (("double", "single"), ("double", "double_upward"), ("double_upward", "single")):
        assert any((case.expected(one) != case.expected(other)).any() for case in drawn)
