"""Recipes for ai-edge-quantizer: the package itself loads them and makes files with our schemes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from ai_edge_quantizer import quantizer

import tfq_pipeline as tfq
from tests.command import Command
from tests.nets import images, mixed_net
from tfq_pipeline import aeq_export, recipe
from tfq_pipeline.errors import BadInput
from tfq_pipeline.graph.keras_graph import KerasGraph
from tfq_pipeline.lowering.lower import lower_float
from tfq_pipeline.tflite import flatbuffer as fb
from tfq_pipeline.tflite.inspect import encoded_weights, weight_scales


def written(
    rules: str, weights: str = "{bits: 4}", calibrate: str = "{}", more: str = "", mode: str = "static"
) -> recipe.Recipe:
    text = f"version: 1\npasses:\n  - fold_batch_norm\n  - calibrate: {calibrate}\n"
    text += f"  - quantize: {{weights: {weights}, activations: {{mode: {mode}}}, rules: [{rules}]}}\n{more}"
    end = "int8" if mode == "static" else "float32"
    return recipe.parse(f"{text}  - convert: {{inputs: {end}, outputs: {end}}}\n", "mine.yaml", "mine")


DEPTHWISE = "{match: {op: DEPTHWISE_CONV_2D}, weights: {bits: 8}}"
RECIPES = {
    **{
        name: recipe.load(name)
        for name in (
            "static_wi8_ai8",
            "static_wi8_ai16",
            "dynamic_wi8_afp32",
            "dynamic_wi4_afp32",
            "weight_only_wi8_afp32",
        )
    },
    "rules": written(f"{DEPTHWISE}, {{match: {{name: '*hidden*'}}, weights: {{bits: 8}}}}"),
    "groups": written(
        "{match: {name: '*logits*'}, weights: {granularity: channel}}",
        "{bits: 4, granularity: group, group_size: 32}",
        mode="dynamic",
    ),
    "mse": written(DEPTHWISE, "{bits: 4, range: mse}"),
    "tensor": written("", "{bits: 8, granularity: tensor}"),
    "zero points": written("", "{bits: 8, symmetric: false}", mode="float"),
    "skip": written("{match: {op: FULLY_CONNECTED}, skip: true}", "{bits: 8}"),
}


@pytest.fixture(scope="module")
def model() -> bytes:
    return lower_float(KerasGraph.from_model(mixed_net(16)).fold_batch_norm())


def theirs(model: bytes, entries: list) -> bytes:
    made = quantizer.Quantizer(model)
    made.load_quantization_recipe(entries)
    samples = [{"image": x[None]} for batch in images(8, 16) for x in batch.inputs[0]]
    statistics = made.calibrate({"serving_default": samples}) if made.need_calibration else None
    return bytes(made.quantize(statistics).quantized_model)


def schemes(file: bytes) -> list:
    """Of each linear operator: where weights are kept and how, what it reads and writes."""
    model = fb.read(file)
    found = []
    for op in fb.ops(model):
        weights = encoded_weights(model, op)
        if weights is not None:
            scales, group = weight_scales(model, weights)
            decoded = weights is not op.inputs[1]
            types = [fb.type_name(t) for t in (op.inputs[0], op.outputs[0])]
            found.append((op.name, fb.type_name(weights), fb.shape(weights), scales.size, group, decoded, *types))
    return found


@pytest.mark.parametrize("name", RECIPES)
def test_its_file_has_our_schemes(name, model, tmp_path):
    entries = json.loads(json.dumps(aeq_export.to_entries(RECIPES[name])))
    (tmp_path / "model.tflite").write_bytes(model)
    x = np.concatenate([batch.inputs[0] for batch in images(8, 16)])
    ours = tfq.quantize(str(tmp_path / "model.tflite"), RECIPES[name], calibration=x).data
    assert schemes(theirs(model, entries)) == schemes(ours)


@pytest.mark.parametrize("name", ["static_wi8_ai8", "static_wi8_ai16"])
def test_what_goes_out_comes_back(name):
    entries = json.dumps(aeq_export.to_entries(RECIPES[name]))
    back = recipe.parse(entries, "aeq.json", "aeq")
    for op in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", None):
        layer = recipe.Layer("layer", "", op)
        specs = [recipe.spec_for(r.passes[2], layer) for r in (back, RECIPES[name])]
        assert specs[0][0] == specs[1][0]
        assert specs[0][1].model_copy(update={"symmetric": False}) == specs[1][1].model_copy(
            update={"symmetric": False}
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (written("", more="  - gptq\n"), "pass 'gptq'"),
        (written(""), "quantize: DEPTHWISE_CONV_2D with 4-bit weights"),
        (written(DEPTHWISE, calibrate="{method: entropy}"), "calibrate: method entropy"),
        (written("{match: {type: Dense}, skip: true}"), "quantize: rule 1: match.type"),
        (written("{match: {position: last}, skip: true}"), "quantize: rule 1: match.position"),
        (written("{match: {name: 'conv?'}, skip: true}"), "quantize: rule 1: name 'conv?'"),
        (written(DEPTHWISE, "{bits: 3}"), "quantize: weights of 3 bits"),
        (
            written(f"{DEPTHWISE}, {{match: {{op: CONV_2D}}, activations: {{bits: 4}}}}"),
            "quantize: activations of 4 bits",
        ),
        (written(DEPTHWISE, "{bits: 4, range: entropy}"), "quantize: weights.range entropy"),
        (written("", "{symmetric: false}", mode="dynamic"), "weights.symmetric false beside dynamic activations"),
        (written("{match: {name: '*a*'}, skip: true}, {match: {op: CONV_2D}, skip: true}"), "rule 2: a rule for '*'"),
        (
            written("{match: {name: '*a*'}, weights: {bits: 8}}, {match: {name: '*b*'}, activations: {bits: 16}}"),
            "rule 2: leaves weights.bits to a rule for '*a*'",
        ),
    ],
)
def test_what_cannot_be_said_is_named(given, message):
    with pytest.raises(BadInput, match=re.escape(message)) as error:
        aeq_export.to_entries(given)
    assert str(error.value).startswith("recipe mine: ")


def test_the_command_prints_it(capfd: pytest.CaptureFixture[str]):
    command = Command(capfd)
    printed = json.loads(command("recipes", "static_wi8_ai8", "--aeq").out)
    assert printed == aeq_export.to_entries(RECIPES["static_wi8_ai8"])
    assert command("recipes", "static_wi8_ai8", "--aeq", "--json").document() == printed
