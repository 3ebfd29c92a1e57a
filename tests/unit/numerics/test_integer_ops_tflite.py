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
        product_in_float32 = op == "fully_connected" and case.weight_scale.size == 1
        expected = case.expected("double_upward", float32_product=product_in_float32)
        np.testing.assert_array_equal(run(case, OPTIMIZED), expected)


def wide_fully_connected(rng: np.random.Generator) -> OneOp:
    """A layer with one scale whose product with the input scale rounds badly in float32."""
    input_scale, weight_scale = np.float32(0.0), np.float32(1.0)
    error = 0.0
    while error < 5e-8:
        input_scale, weight_scale = np.float32(rng.uniform(0.01, 0.03)), np.float32(rng.uniform(0.001, 0.01))
        product = float(input_scale) * float(weight_scale)
        error = abs(float(input_scale * weight_scale) / product - 1)
    x = rng.integers(-128, 128, (256, 512)).astype(np.int8)
    weights = rng.integers(1, 128, (512, 512)).astype(np.int8)
    largest = ((x + 128.0) @ weights.T.astype(np.float64)).max() * product
    return OneOp(
        op="fully_connected",
        x=x,
        weights=weights,
        bits=8,
        weight_scale=np.array([weight_scale]),
        bias=np.zeros(512, np.int32),
        input=(float(input_scale), -128),
        output=(float(np.float32(largest / 255)), -128),
        activation="none",
        geometry={},
    )


def test_optimized_fully_connected_multiplies_scales_in_float32_and_the_reference_in_double():
    rng = np.random.default_rng(0)
    told_apart = {OPTIMIZED: 0, REFERENCE: 0}
    for _ in range(6):
        case = wide_fully_connected(rng)
        for resolver, rounding, in_float32 in ((OPTIMIZED, "double_upward", True), (REFERENCE, "single", False)):
            expected = case.expected(rounding, float32_product=in_float32)
            np.testing.assert_array_equal(run(case, resolver), expected)
            told_apart[resolver] += (expected != case.expected(rounding, float32_product=not in_float32)).sum()
    assert all(told_apart.values())


@pytest.mark.parametrize("bits", [4, 8])
def test_optimized_depthwise_conv2d_rounds_upward_in_blocks_of_eight(bits):
    for case in cases("depthwise_conv2d", bits):
        np.testing.assert_array_equal(run(case, OPTIMIZED), optimized_depthwise(case))


@pytest.mark.parametrize("op", OPS)
def test_roundings_differ_on_these_samples(op):
    drawn = cases(op, 4)
    for one, other in (("double", "single"), ("double", "double_upward"), ("double_upward", "single")):
        assert any((case.expected(one) != case.expected(other)).any() for case in drawn)
