"""The bench: the models that it makes, how it interleaves, and what it says about targets."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delegates.int4.bench import cpu_class, layers, measures, models
from delegates.int4.bench.compare import QUICK, Loaded, Schedule, Variant, compare, interleave, load
from tfq_pipeline.tflite import flatbuffer as fb


def _small_net(shape: tuple[int, ...]) -> Any:
    from tf_keras import Model, layers

    image = layers.Input(shape)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(8, 3, 2, "same", use_bias=False)(image)))
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    return Model(image, layers.Dense(5)(layers.GlobalAveragePooling2D()(x)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("bench")
    models.write([models.Structure("small", (16, 16, 3), _small_net)], path)
    return path


def _invoke(path: Path, values: np.ndarray) -> np.ndarray:
    interpreter = _interpreter(path)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    return np.array(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def _interpreter(path: Path) -> Any:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def _run(path: Path, image: np.ndarray) -> np.ndarray:
    source, sink = (details[0] for details in _details(path))
    scale, zero_point = source["quantization"]
    if source["dtype"] == np.int8:
        image = np.clip(np.round(image / scale) + zero_point, -128, 127).astype(np.int8)
    values = _invoke(path, image).astype(np.float32)
    scale, zero_point = sink["quantization"]
    return values if sink["dtype"] == np.float32 else (values - zero_point) * scale


def _details(path: Path) -> tuple[Any, Any]:
    interpreter = _interpreter(path)
    return interpreter.get_input_details(), interpreter.get_output_details()


def test_formats_of_a_model_compute_nearly_the_same(folder: Path) -> None:
    image = np.random.default_rng(5).uniform(-1, 1, (1, 16, 16, 3)).astype(np.float32)
    floating, int8, int4 = (_run(folder / f"small.{kind}.tflite", image) for kind in ("f32", "i8", "i4"))
    spread = float(np.abs(floating).max())
    assert float(np.abs(int8 - floating).max()) < 0.2 * spread
    assert float(np.abs(int4 - floating).max()) < 0.5 * spread


def test_weights_at_4_bits_are_those_nearest_to_the_int8_ones(folder: Path) -> None:
    int8, int4 = (fb.read(folder / f"small.{kind}.tflite") for kind in ("i8", "i4"))
    layers = [pair for pair in zip(fb.ops(int8), fb.ops(int4), strict=True) if pair[0].name != "MEAN"]
    assert [op.name for op, _ in layers] == ["CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"]
    for before, after in layers:
        axis = 3 if before.name == "DEPTHWISE_CONV_2D" else 0
        step = _scales_along(after.inputs[1], axis)
        fine = fb.array(int8, before.inputs[1]) * _scales_along(before.inputs[1], axis)
        coarse = fb.array(int4, after.inputs[1]) * step
        assert fb.type_name(after.inputs[1]) == "INT4"
        assert (np.abs(coarse - fine) <= step * 0.5001).all()
        if before.inputs[2] is not None:
            real = fb.array(int8, before.inputs[2]) * fb.scales(before.inputs[2])
            step = fb.scales(after.inputs[2])
            assert (np.abs(fb.array(int4, after.inputs[2]) * step - real) <= step).all()


def _scales_along(tensor: Any, axis: int) -> np.ndarray:
    return fb.scales(tensor).reshape([-1 if i == axis else 1 for i in range(len(fb.shape(tensor)))])


def test_layers_do_not_share_weights() -> None:
    rng = np.random.default_rng(0)
    first, second = (models._he_normal(rng, (3, 3, 64, 32), depthwise=False) for _ in range(2))
    assert not np.array_equal(first, second)
    assert first.std() == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)


def test_every_variant_is_measured(folder: Path) -> None:
    result = compare(folder, "small", [1], QUICK)
    names = {v["name"] for v in result["variants"]}
    assert names == {"f32 x1", "i8 x1", "i4 x1", "i4+int4 x1"}
    ours = next(v for v in result["variants"] if v["delegate"])
    assert ours["delegated"] >= 3
    assert all(kernel.rpartition("_")[0] for kernel in ours["kernels"])
    assert all(len(v["rounds_ms"]) == QUICK.rounds and v["median_ms"] > 0 for v in result["variants"])
    int8 = next(v for v in result["variants"] if v["format"] == "i8")
    # The dense layer's bias of zeros is left out of the file.
    assert int8["weight_bytes"] == 8 * 27 + 8 * 9 + 8 * 5 + 4 * (8 + 8) + 4 * (8 + 8 + 5)
    assert int8["macs"] == 64 * 8 * 27 + 64 * 8 * 9 + 8 * 5


def test_what_the_delegate_took_is_not_said_for_every_layer(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = load(folder / "small.i4.tflite", Variant("i4", True, 1))
    assert loaded.report is not None
    assert loaded.report["delegated"] > 0
    assert "tfq int4" not in capfd.readouterr().err
    with pytest.raises(ValueError, match="not there"):
        load(folder / "not there.tflite", Variant("i4", True, 1))
    print("heard", file=sys.stderr, flush=True)
    assert "heard" in capfd.readouterr().err


def test_layers_alone_make_up_the_model(folder: Path, tmp_path: Path) -> None:
    model = fb.read(folder / "small.i8.tflite")
    values = np.random.default_rng(3).integers(-128, 128, (1, 16, 16, 3)).astype(np.int8)
    expected = _invoke(folder / "small.i8.tflite", values)
    for op in fb.ops(model):
        path = tmp_path / f"{op.index}.tflite"
        path.write_bytes(layers.alone(model, op))
        values = _invoke(path, values)
    np.testing.assert_array_equal(values, expected)


def test_equal_layers_are_counted(folder: Path) -> None:
    found = layers.layers(folder, "small")
    assert [(layer.name, layer.count) for layer in found] == [
        ("CONV_2D 1x16x16x3 8x3x3x3 stride 2", 1),
        ("DEPTHWISE_CONV_2D 1x8x8x8 1x3x3x8", 1),
        ("MEAN 1x8x8x8", 1),
        ("FULLY_CONNECTED 1x8 5x8", 1),
    ]
    measured = layers.measure(found[0], QUICK)
    assert measured["kernels"]
    assert measured["int8_ms"] > 0 < measured["int4_ms"]


class _Counter:
    """Stands for an interpreter."""

    def __init__(self, log: list[str], name: str) -> None:
        self.log, self.name = log, name

    def invoke(self) -> None:
        self.log.append(self.name)


def test_variants_take_turns_in_changing_order() -> None:
    log: list[str] = []
    variants = [Variant(kind, False, 1) for kind in ("a", "b", "c")]
    loaded = [Loaded(v, _Counter(log, v.name), 0.0, None) for v in variants]
    before = os.sched_getaffinity(0)
    times = interleave(loaded, Schedule(rounds=8, warmup=1, runs=2, seconds=0.0))
    assert os.sched_getaffinity(0) == before
    rounds = [log[i : i + 9 : 3] for i in range(0, len(log), 9)]
    assert len(log) == 8 * 3 * 3
    assert all(sorted(r) == ["a x1", "b x1", "c x1"] for r in rounds)
    assert len({tuple(r) for r in rounds}) > 1
    assert {name: len(entries) for name, entries in times.items()} == {"a x1": 8, "b x1": 8, "c x1": 8}


def _variant(kind: str, delegate: bool, threads: int, ms: float, **more: Any) -> dict[str, Any]:
    entry = {"name": Variant(kind, delegate, threads).name, "format": kind, "delegate": delegate, "threads": threads}
    known = {
        "bytes": 4_000_000,
        "weight_bytes": 3_400_000,
        "prepare_ms": 12.0,
        "delegated": 5,
        "nodes": 7,
        "memory": None,
        "kernels": ["gemm_4x16c4_avx2"],
        "macs": 1,
    }
    return {**entry, **known, "median_ms": ms, "rounds_ms": [ms, ms], **more}


def _write(folder: Path, name: str, isa: list[str], results: dict[str, list[dict[str, Any]]]) -> None:
    about = {
        "cpu": "X",
        "isa": isa,
        "cpus": 2,
        "runtime": "LiteRT 0",
        "commit": "abc",
        "date": "2026-01-01",
        "class": name,
    }
    entries = [{"model": model, "variants": variants} for model, variants in results.items()]
    (folder / f"{name}.json").write_text(json.dumps({**about, "class": name, "models": entries}))


def test_measures_beside_targets(tmp_path: Path) -> None:
    v2 = [
        _variant("f32", False, 1, 5.0),
        _variant("i8", False, 1, 2.0),
        _variant("i4", False, 1, 10.0),
        _variant("i4", True, 1, 1.8, memory={"packed_bytes": 1_700_000}),
    ]
    dense = [
        _variant("i4b32_dynamic", False, 1, 1.0),
        _variant("i4b32_dynamic", True, 1, 0.5, bytes=9_000_000),
    ]
    isa = ["avx2", "avx512_vnni"]
    _write(tmp_path, "native", isa, {"mobilenet_v2": v2, "dense_1x4096x4096": dense})
    _write(tmp_path, "avx2", isa, {"mobilenet_v2": v2})
    kernels = {"context": {"read bandwidth 1024 KiB": "90.0 GB/s", "read bandwidth 8192 KiB": "20.0 GB/s"}}
    runs = measures.read_runs(tmp_path)
    found = {(m.name, m.where): m for m in measures.measures(runs, kernels)}
    texts = measures.sections(runs, {})
    assert [line.split(" | ")[1].strip() for line in texts["measures avx2"].splitlines()[4:]] == ["avx2"] * 2
    assert all(text.startswith(f"{measures.machine(runs[0])}\n\n| ") for text in texts.values())

    def told(name: str, where: str = "native") -> tuple[float, float, bool]:
        m = found[(name, where)]
        return round(m.value, 6), m.target, m.met

    assert told("mobilenet_v2: INT4 of int8's time") == (0.9, 0.95, True)
    assert told("mobilenet_v2: INT4 of int8's time", "avx2") == (0.9, 0.75, False)
    assert told("mobilenet_v2: INT4 of stock INT4's time") == (0.18, 0.15, False)
    assert told("dense_1x4096x4096 i4b32_dynamic: of XNNPACK's time") == (0.5, 0.4, False)
    # 9 MB in 0.5 ms are 18 GB/s, and 8 MiB is the nearest that was measured.
    assert told("dense_1x4096x4096 i4b32_dynamic: of read bandwidth") == (0.9, 0.8, True)
    assert told("mobilenet_v2: prepare") == (12.0, 30.0, True)
    assert told("mobilenet_v2: packed weights of int8's") == (0.5, 0.55, True)


def test_tables_go_between_their_markers() -> None:
    text = "a\n<!-- bench: measures -->\nold\n<!-- end -->\nb\n<!-- bench: other -->\nkept\n<!-- end -->\n"
    new = measures.refresh(text, {"measures": "| new |"})
    assert new == text.replace("old", "| new |")
    assert measures.refresh(new, {"measures": "| new |"}) == new


def test_peak_is_that_of_the_highest_tier_in_use() -> None:
    context = {"peak avx2 (a, b)": "100.0 GMAC/s", "peak avx512_vnni (c)": "400.0 GMAC/s", "caches": "1"}
    assert measures.peak_for({"context": context}, ["gemm_4x16c4_avx2", "dwconv_1c1_reference"]) == 100e9
    assert measures.peak_for({"context": context}, ["gemm_4x16c4_avx2", "gemm_32x32c4_avx512_vnni"]) == 400e9
    assert measures.peak_for({"context": context}, ["dwconv_1c1_reference"]) is None
    assert measures.peak_for({}, ["gemm_4x16c4_avx2"]) is None


def test_classes_of_a_cpu() -> None:
    assert cpu_class.worth_measuring(["avx2"]) == ["native"]
    assert cpu_class.worth_measuring(["avx2", "avx512f", "avx512_vnni"]) == ["native", "avx2"]
    assert cpu_class.worth_measuring(["avx2", "avx512f", "amx_int8"]) == ["native", "avx512_vnni", "avx2"]
