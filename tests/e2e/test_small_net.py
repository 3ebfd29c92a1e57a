"""A small Keras 3 net through every verb, and the documents that scripts read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.command import Command
from tests.nets import grey_images, keras3_net
from tfq_pipeline import importers
from tfq_pipeline.lowering.reference import fake_quantized
from tfq_pipeline.plan import Plan
from tfq_pipeline.tflite.interpreter import open_model

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """What `tfq quantize --json` was given, and what it wrote."""

    folder: Path
    model: Path
    data: Path
    output: Path
    report: Path
    document: dict[str, Any]


def program(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """`tfq` as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tfq_pipeline.cli.main", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{ROOT}"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    model, data = folder / "small.keras", folder / "data.npz"
    keras3_net().save(model)
    x, y = grey_images()
    np.savez(data, image=x, y=y)
    output, report = folder / "small.tflite", folder / "report"
    sources = [f"--{name}={data}" for name in ("train", "data")]
    done = program(
        "quantize", model, "--recipe=static_wi4_ai8", *sources, f"--output={output}", f"--report={report}", "--json",
        cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(line.startswith("tfq: ") for line in done.stderr.splitlines()), done.stderr
    return Run(folder, model, data, output, report, json.loads(done.stdout))


def test_the_quantize_document(run: Run) -> None:
    document = run.document
    assert document["output"] == str(run.output)
    assert document["recipe"] == "static_wi4_ai8"
    names = [entry["name"] for entry in document["passes"]]
    assert names == ["fold_batch_norm", "calibrate", "quantize", "convert"]
    assert all(entry["seconds"] >= 0 for entry in document["passes"])
    verification = document["verification"]
    assert verification["samples"] == 48
    assert verification["max_abs_error_lsb"] <= verification["limit_lsb"]
    assert 0.9 <= verification["argmax_agreement"] <= 1
    metrics = document["metrics"]
    drop = 100 * (metrics["float"]["accuracy"] - metrics["quantized"]["accuracy"])
    assert metrics["accuracy_drop"] == pytest.approx(drop, abs=1e-3)


def test_the_file_is_compared_with_the_fake_quantized_model_on_all_test_data(run: Run) -> None:
    """Against both, run here."""
    plan = Plan.load(run.report / "plan.npz")
    graph = importers.open_graph(str(run.model)).graph.fold_batch_norm()
    x, y = grey_images()
    wanted = fake_quantized(graph, plan)([x])[0]
    got = np.concatenate([open_model(run.output, default_delegates=False).run([image[None]])[0] for image in x])
    step = plan.activations["logits"].affine.scale[0]  # type: ignore[union-attr]
    error = np.abs(got - wanted) / step
    whole = run.document["verification"]["test"]
    assert whole["samples"] == 48
    assert whole["argmax_agreement"] == pytest.approx((got.argmax(axis=1) == wanted.argmax(axis=1)).mean())
    assert whole["max_abs_error_lsb"] == pytest.approx(error.max(), abs=1e-3)
    assert whole["mean_abs_error_lsb"] == pytest.approx(error.mean(), abs=1e-4)
    assert whole["differing"] == pytest.approx((error > 0.5).mean(), abs=1e-6)
    gap = 100 * ((wanted.argmax(axis=1) == y).mean() - run.document["metrics"]["quantized"]["accuracy"])
    assert run.document["metrics"]["accuracy_gap"] == pytest.approx(gap, abs=1e-3)


def test_the_float_metrics_are_keras_own(run: Run) -> None:
    import keras

    x, y = grey_images()
    said = keras.models.load_model(run.model).predict(x, verbose=0).argmax(axis=1)
    assert run.document["metrics"]["float"]["accuracy"] == pytest.approx((said == y).mean())


def test_inspect_says_what_the_file_holds(tfq: Command, run: Run) -> None:
    document = tfq("inspect", run.output, "--json").document()
    assert document == run.document["inspect"]
    assert document["size_bytes"] == run.output.stat().st_size
    assert document["compression_ratio"] == pytest.approx(
        document["float_size_bytes"] / document["size_bytes"], abs=1e-3
    )
    assert (document["unfolded_batch_norms"], document["float_ops"]) == (0, 0)
    assert document["ops"]["CONV_2D"] == document["ops"]["DEPTHWISE_CONV_2D"] == document["ops"]["FULLY_CONNECTED"] == 1
    weights = {entry["layer"]: entry for entry in document["weights"]}
    assert set(weights) == {"stem", "depthwise", "logits"}
    for entry in weights.values():
        assert (entry["bits"], entry["scheme"], entry["granularity"]) == (4, "uniform", "channel")
        # Two weights a byte.
        assert entry["bytes"] == -(-np.prod(entry["shape"]) // 2)
    assert {"tensor", "layer", "op", "shape", "bits", "scheme", "granularity", "group_size", "bytes"} <= set(entry)
    said = tfq("inspect", run.output).out
    assert "stem" in said
    assert f"delegate: takes {document['delegate']['delegated']} of {document['delegate']['total']} nodes" in said


def test_evaluate_agrees_with_the_pipeline_with_and_without_the_delegate(tfq: Command, run: Run) -> None:
    plain = tfq("evaluate", run.output, f"--data={run.data}", "--json").document()
    delegated = tfq("evaluate", run.output, f"--data={run.data}", "--delegate=int4", "--json").document()
    keras = tfq("evaluate", run.model, f"--data={run.data}", "--json").document()
    assert {"model", "samples", "metrics", "seconds"} <= set(plain)
    assert (plain["model"], plain["samples"]) == (str(run.output), 48)
    assert plain["metrics"] == delegated["metrics"] == run.document["metrics"]["quantized"]
    assert keras["metrics"] == run.document["metrics"]["float"]


def test_benchmark_measures_the_file(tfq: Command, run: Run) -> None:
    quick = ("--num_runs=3", "--warmup_runs=1", "--min_secs=0", "--json")
    (entry,) = tfq("benchmark", run.output, "--device=host", "--delegate=int4", *quick).document()
    assert (entry["model"], entry["device"], entry["delegate"]) == (str(run.output), "host", "int4")
    assert (entry["threads"], entry["emulated"], entry["throttled"]) == (1, False, False)
    latency = entry["latency_ms"]
    assert set(latency) >= {"avg", "min", "max", "stddev", "median", "p5", "p95", "first", "init"}
    assert 0 < latency["min"] <= latency["median"] <= latency["max"]
    assert set(entry["memory"]) == {"peak_mb", "init_footprint_kb", "overall_footprint_kb"}
    taken = run.document["inspect"]["delegate"]
    assert (entry["nodes"]["delegated"], entry["nodes"]["total"]) == (taken["delegated"], taken["total"])
    assert all(set(left) >= {"op", "reason"} for left in entry["nodes"]["declined"])
    assert "energy_mj_per_inference" in entry
    assert "runtime" in entry


class Page(HTMLParser):
    """The text of a page, and what it would load."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words, self.loaded = "", []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.loaded += [value for name, value in attributes if name in ("src", "href", "srcset", "data", "xlink:href")]
        assert tag not in ("script", "link", "iframe", "object", "embed")

    def handle_data(self, data: str) -> None:
        self.words += data


def test_report_is_one_page_that_needs_nothing_else(tfq: Command, run: Run) -> None:
    page = run.report / "report.html"
    written = page.read_text("utf-8")
    page.unlink()
    assert tfq("report", run.report, "--json").document() == {"run": str(run.report), "report": str(page)}
    text = page.read_text("utf-8")
    assert text == written
    parsed = Page(text)
    assert parsed.loaded == []
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    for said in (
        f"{run.output.stat().st_size:,}",
        f"{100 * run.document['metrics']['quantized']['accuracy']:.2f} %",
        *(entry["layer"] for entry in run.document["inspect"]["weights"]),
        "unfolded batch norms",
        "seed",
    ):
        assert said in parsed.words, said
    assert sorted(file.name for file in run.report.iterdir()) == ["plan.npz", "report.html", "run.json"]
    stored = json.loads((run.report / "run.json").read_text("utf-8"))
    assert {key: stored[key] for key in run.document if key not in ("report", "output")} == {
        key: run.document[key] for key in run.document if key not in ("report", "output")
    }


def test_the_python_calls_do_the_same(run: Run, tmp_path: Path) -> None:
    import tfq_pipeline as tfq

    x, y = grey_images()
    result = tfq.quantize(keras3_net(), recipe="static_wi4_ai8", calibration=x, data={"image": x, "y": y})
    assert result.metrics == run.document["metrics"]
    result.save(tmp_path / "model.tflite")
    assert tfq.inspect(tmp_path / "model.tflite")["weights"] == run.document["inspect"]["weights"]
    assert result.report(tmp_path / "out") == tmp_path / "out" / "report.html"
    assert tfq.evaluate(tmp_path / "model.tflite", {"image": x, "y": y})["metrics"] == result.metrics["quantized"]
    assert "static_wi4_ai8" in tfq.recipes()


INTERRUPTED = """
import signal
import numpy as np

def batches():
    rng = np.random.default_rng(0)
    for i in range(20):
        if i == 10:
            signal.raise_signal(signal.{signal})
        yield rng.uniform(size=(8, 12, 12, 1)).astype("float32"), rng.integers(0, 4, 8)
"""


@pytest.mark.parametrize(
    ("name", "recipe", "flag"), [("SIGINT", "qat_wi8_ai8", "train"), ("SIGTERM", "static_wi8_ai8", "calibration")]
)
def test_an_interrupt_leaves_nothing(run: Run, tmp_path: Path, name: str, recipe: str, flag: str) -> None:
    """Ctrl-C while training, and a polite kill while calibrating."""
    (tmp_path / "mine.py").write_text(INTERRUPTED.replace("{signal}", name))
    sources = {"calibration": run.data, "data": run.data, flag: "mine:batches"}
    flags = [f"--{key}={value}" for key, value in sources.items()]
    done = program(
        "quantize", run.model, f"--recipe={recipe}", *flags, "--output=out.tflite", "--report=out", cwd=tmp_path
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.splitlines()[-1] == "tfq: interrupted; nothing was left half-written"
    assert {file.name for file in tmp_path.iterdir()} <= {"mine.py", "__pycache__"}


def test_training_with_a_teacher_and_checkpoints_from_the_command_line(run: Run, tmp_path: Path) -> None:
    recipe = tmp_path / "taught.yaml"
    recipe.write_text(
        "version: 1\npasses: [fold_batch_norm, calibrate, quantize: {weights: {bits: 4}}, gptq, "
        "qat: {epochs: 2, batch_size: 16, weights: lsq, activations: lsq, distil: {weight: 0.5, features: [pool]}}, "
        "convert]\n"
    )
    sources = [f"--{name}={run.data}" for name in ("train", "data")]
    histories = []
    for output in ("first.tflite", "again.tflite"):
        done = program(
            "quantize", run.model, f"--recipe={recipe}", *sources, f"--output={tmp_path / output}",
            f"--checkpoints={tmp_path / 'kept'}", "--json", cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        histories.append(next(e["history"] for e in json.loads(done.stdout)["passes"] if e["name"] == "qat"))
    assert {"loss", "accuracy", "teacher_loss", "feature_pool_loss"} <= set(histories[0])
    assert len(histories[0]["loss"]) == 2
    assert histories[0] == histories[1]
    assert len(list((tmp_path / "kept").iterdir())) == 1
    assert (tmp_path / "first.tflite").read_bytes() == (tmp_path / "again.tflite").read_bytes()
