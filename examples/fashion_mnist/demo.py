"""The main job on real data: one float model, four recipes, 10,000 test images, this machine and an emulated device.

    python -m examples.fashion_mnist.demo [--output out/demo]

What it writes: the four .tflite files, `run.json`, the page `report.html` and its pictures. What it prints: one table.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from absl import app, flags
from rich.console import Console

from tfq_pipeline.cli.terminal import Terminal, own_streams

FLAGS = flags.FLAGS
flags.DEFINE_string("output", "out/demo", "Folder for the files and the report.")
flags.DEFINE_integer("seed", 0, "Seed of training and shuffling.")

MODEL = Path(__file__).with_name("mobilenet.keras")
DATA = "fashion_mnist"
RECIPES = ("static_wi8_ai8", "static_wi4_ai8", "qat_wi8_ai8", "qat_wi4_ai8")
DEVICES = ("host", "emulator")


def agreement(path: Path) -> dict[str, Any]:
    """Outputs of a file with the delegate against those of the runtime alone, as it comes, on every test image."""
    from tfq_pipeline import readers
    from tfq_pipeline.tflite.interpreter import open_model

    plain, delegated = (
        open_model(path),
        open_model(path, delegate="int4"),
    )
    samples, differing, largest = 0, 0, 0
    for batch in readers.open_data(DATA, plain.inputs, "test", labels=True):
        raw = [port.to_file(x) for port, x in zip(plain.input_ports, batch.inputs, strict=True)]
        error = np.abs(plain.run_raw(raw)[0].astype(int) - delegated.run_raw(raw)[0].astype(int))
        samples += len(batch)
        differing += int((error.reshape(len(error), -1).max(axis=1) > 0).sum())
        largest = max(largest, int(error.max()))
    return {"model": path.name, "samples": samples, "differing": differing, "largest_lsb": largest}


def measured(paths: list[Path]) -> list[dict[str, Any]]:
    """Latency on every device: all files on the runtime alone, the 4-bit ones with the delegate too."""
    import tfq_pipeline as tfq
    from android_bench.experiment import Settings

    four_bit = [path for path in paths if "wi4" in path.name]
    results: list[dict[str, Any]] = []
    for device in DEVICES:
        settings = Settings(runs=50 if device == "host" else 5, min_secs=1.0 if device == "host" else 0.1)
        results += tfq.benchmark(paths, device=device, settings=settings)
        results += tfq.benchmark(four_bit, device=device, delegate="int4", settings=settings)
    return results


def main(argv: list[str]) -> None:
    """Everything, with what libraries print left out."""
    del argv
    with own_streams(verbosity=0) as terminal:
        run(Path(FLAGS.output), terminal)


def run(output: Path, terminal: Terminal) -> None:
    """Quantizes, compares, measures, reports."""
    import tfq_pipeline as tfq
    from tfq_pipeline import report

    output.mkdir(parents=True, exist_ok=True)
    runs, paths = [], []
    for recipe in RECIPES:
        terminal.say(f"{recipe}: quantizing and evaluating on 10,000 images")
        with terminal.progress() as progress:
            result = tfq.quantize(str(MODEL), recipe=recipe, data=DATA, seed=FLAGS.seed, progress=progress)
        path = output / f"{recipe}.tflite"
        result.save(path)
        runs.append(result.document)
        paths.append(path)
    terminal.say("comparing the delegate's outputs with the runtime's on every test image")
    agreed = [agreement(path) for path in paths if "wi4" in path.name]
    terminal.say("measuring on this machine and on the emulated device")
    benchmarks = measured(paths)
    document = {
        "title": "Fashion-MNIST, a small MobileNet",
        "runs": runs,
        "agreement": agreed,
        "benchmarks": benchmarks,
    }
    page = report.publish(output, document)
    for name, picture in report.pictures(document).items():
        (output / name).write_text(picture, "utf-8")
    show(terminal.console(), runs, agreed, benchmarks)
    terminal.console().print(f"\nreport: {page}", soft_wrap=True)


def show(
    console: Console, runs: list[dict[str, Any]], agreed: list[dict[str, Any]], benchmarks: list[dict[str, Any]]
) -> None:
    """Prints the table."""
    from rich.table import Table

    def latency(model: str, device: str, delegate: bool) -> str:
        for b in benchmarks:
            same = Path(b["model"]).name == model and b["emulated"] == (device == "emulator")
            if same and (b["delegate"] is not None) == delegate:
                return f"{b['latency_ms']['median']:.3f}"
        return ""

    table = Table("recipe", "accuracy", "drop, points", "bytes", "of float", title="Fashion-MNIST, 10,000 test images")
    for heading in ("host ms", "host ms, delegate", "emulated ms", "emulated ms, delegate"):
        table.add_column(heading, justify="right")
    first = runs[0]
    float_size = first["inspect"]["float_size_bytes"]
    table.add_row(
        "float", f"{first['metrics']['float']['accuracy']:.4f}", "", f"{float_size:,}", "1.000", "", "", "", ""
    )
    for run in runs:
        name = os.path.basename(run["output"])
        size = run["inspect"]["size_bytes"]
        table.add_row(
            run["recipe"],
            f"{run['metrics']['quantized']['accuracy']:.4f}",
            f"{run['metrics']['accuracy_drop']:.2f}",
            f"{size:,}",
            f"{size / float_size:.3f}",
            *(latency(name, device, delegate) for device in DEVICES for delegate in (False, True)),
        )
    console.print(table)
    for entry in agreed:
        console.print(
            f"{entry['model']}: with the delegate {entry['differing']} of {entry['samples']} outputs differ "
            "from the runtime's own"
        )
    console.print("Emulated times say nothing about a phone; they show that the files run there.")


if __name__ == "__main__":
    app.run(main)
