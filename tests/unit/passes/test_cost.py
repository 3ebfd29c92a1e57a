"""What layers cost, against sums by hand."""

import pytest
import tf_keras

from tests.nets import mixed_net
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.passes.cost import COSTS, latency, read_latencies, work
from tfq_pipeline.passes.quantize import LayerRequest, Request, quantize
from tfq_pipeline.plan import Plan

layers = tf_keras.layers


def planned(graph: KerasGraph) -> Plan:
    """Dynamic-range weights of 4 bits."""
    return quantize(graph, None, lambda *_: LayerRequest(Request(4, True, "channel"), None))


def test_work_is_that_of_each_output_value() -> None:
    graph = KerasGraph.from_model(mixed_net(12)).fold_batch_norm()
    found = work(graph, planned(graph))
    # Outputs of the stem are 6 x 6, kernels 3 x 3.
    assert found["stem"].multiplications == 6 * 6 * 8 * 3 * 3 * 3
    assert found["depthwise"].multiplications == 6 * 6 * 8 * 3 * 3
    assert found["project"].multiplications == 6 * 6 * 8 * 8
    assert found["hidden"].multiplications == found["hidden"].weights == 3 * 3 * 12 * 16
    assert {layer.activation_bits for layer in found.values()} == {8}


def test_a_transposed_convolution_works_for_each_value_that_it_reads() -> None:
    x = tf_keras.Input((5, 5, 2))
    graph = KerasGraph.from_model(tf_keras.Model(x, layers.Conv2DTranspose(3, 2, strides=2, name="up")(x)))
    assert work(graph, planned(graph))["up"].multiplications == 5 * 5 * 2 * 2 * 2 * 3


def test_costs_of_bits() -> None:
    graph = KerasGraph.from_model(mixed_net(12)).fold_batch_norm()
    hidden = work(graph, planned(graph))["hidden"]
    n = hidden.weights
    assert [COSTS["bits"](hidden, bits) for bits in (2, 3, 4, 8)] == pytest.approx(
        [n / 4e3, n * 3 / 8e3, n / 2e3, n / 1e3]
    )
    assert [COSTS["size"](hidden, bits) for bits in (2, 3, 4, 8)] == [n / 2e3, n / 2e3, n / 2e3, n / 1e3]
    assert COSTS["operations"](hidden, 3) == pytest.approx(n * 3 * 8 / 1e6)
    # 0.2 pJ for 8 x 8 bits, 0.1 for the sum, 20.3 for a bit from memory.
    assert COSTS["energy"](hidden, 8) == pytest.approx(n * (0.2 + 0.1 + 8 * 20.3125) / 1e6)
    assert COSTS["energy"](hidden, 2) == pytest.approx(n * (0.05 + 0.1 + 4 * 20.3125) / 1e6)


def test_work_of_free_sizes_is_not_known() -> None:
    x = tf_keras.Input((None, None, 2))
    graph = KerasGraph.from_model(tf_keras.Model(x, layers.Conv2D(3, 2, name="conv")(x)))
    conv = work(graph, planned(graph))["conv"]
    assert COSTS["bits"](conv, 4) == 3 * 2 * 2 * 2 / 2e3
    with pytest.raises(BadInput, match="layer 'conv': its input has a free size"):
        COSTS["operations"](conv, 4)


def test_latency_tables(tmp_path) -> None:
    path = tmp_path / "ms.json"
    path.write_text('{"conv": {"4": 0.25, "8": 0.5}}')
    table = read_latencies(path)
    assert [latency(table, "conv", bits) for bits in (2, 4, 8)] == [0.25, 0.25, 0.5]
    with pytest.raises(BadInput, match="nothing of layer 'dense' at 8 bits"):
        latency(table, "dense", 8)
    path.write_text('{"conv": [1]}')
    with pytest.raises(BadInput, match=r"ms\.json: not a table"):
        read_latencies(path)
    with pytest.raises(BadInput, match="No such file"):
        read_latencies(tmp_path / "none.json")
