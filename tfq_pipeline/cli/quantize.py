"""`tfq quantize`: a recipe from start to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfq_pipeline import readers, recipe
from tfq_pipeline.cli import arguments
from tfq_pipeline.cli.inspect import size_line
from tfq_pipeline.cli.terminal import Terminal, table

USAGE = (
    "MODEL --recipe R [--train T] [--calibration C] [--data D] --output OUT.tflite [--report DIR]\n\n"
    "MODEL is a Keras 3 .keras, a Keras 2 .h5 or .keras, a SavedModel, or a float .tflite. T, C and D are an .npz\n"
    "(arrays named after the inputs, or x and y), a folder of images in class folders, package.module:function, or a\n"
    "built-in data set (as fashion_mnist), which brings all three when given as D."
)


def define(values: flags.FlagValues) -> None:
    flags.DEFINE_float(
        "target_drop",
        None,
        "Points of accuracy that the pass accuracy_aware may lose, instead of what the recipe says.",
        lower_bound=0.0,
        flag_values=values,
    )
    for name, text in (
        ("recipe", "Name of a built-in recipe (see 'tfq recipes'), or a .yaml or .json file."),
        ("train", "Labelled data to train on."),
        ("calibration", "Samples to calibrate with; the training data without labels by default."),
        ("data", "Labelled data to measure on."),
        ("output", "The .tflite to write."),
        ("checkpoints", "Folder where training keeps its state after each epoch; the same command goes on from there."),
        ("report", "Folder for run.json, plan.npz and report.html."),
    ):
        flags.DEFINE_string(name, None, text, flag_values=values)


def run(args: Sequence[str], values: flags.FlagValues, terminal: Terminal) -> Any:
    model = arguments.one(args, "quantize", "MODEL")
    chosen = recipe.load(arguments.needed(values.recipe, "recipe", "a recipe; 'tfq recipes' lists the built-in ones"))
    output = arguments.writable(arguments.needed(values.output, "output", "the .tflite to write"), "output")
    if values.report:
        arguments.folder(values.report, "report")
    arguments.present(model, "a .keras, .h5, SavedModel or float .tflite")
    readers.require(chosen.needs(), values.calibration, values.data, values.train)
    import tfq_pipeline as tfq

    with terminal.progress() as progress:
        result = tfq.quantize(
            model,
            chosen,
            values.calibration,
            values.data,
            values.train,
            seed=values.seed,
            progress=progress,
            target_drop=values.target_drop,
            checkpoints=values.checkpoints,
        )
        result.save(output)
        if values.report:
            result.document["report"] = str(result.report(values.report))
    return result.document


def show(document: Any, terminal: Terminal) -> None:
    inspected, checked = document["inspect"], document["verification"]
    console = terminal.console()
    console.print(f"{document['output']}: {size_line(inspected)}", soft_wrap=True)
    if checked:
        console.print(
            f"verified on {checked['samples']} samples: largest error {checked['max_abs_error_lsb']} LSB,"
            f" argmax agreement {checked['argmax_agreement']:.4f}",
            soft_wrap=True,
        )
    passes = table("pass", "seconds")
    for entry in document["passes"]:
        passes.add_row(entry["name"], f"{entry['seconds']:.1f}")
    console.print(passes)
    if "metrics" in document:
        metrics = table("metric", "float", "quantized", "drop")
        before, after = document["metrics"]["float"], document["metrics"]["quantized"]
        for name in before:
            drop = f"{document['metrics']['accuracy_drop']:+.2f} points" if name == "accuracy" else ""
            metrics.add_row(name, f"{before[name]:.4f}", f"{after[name]:.4f}", drop)
        console.print(metrics)
        if "accuracy_gap" in document["metrics"]:
            whole = checked["test"]
            console.print(
                f"the file against the fake-quantized model on {whole['samples']} test samples:"
                f" accuracy gap {document['metrics']['accuracy_gap']:+.2f} points,"
                f" argmax agreement {whole['argmax_agreement']:.4f}, mean error {whole['mean_abs_error_lsb']} LSB",
                soft_wrap=True,
            )
    if "report" in document:
        console.print(f"report: {document['report']}", soft_wrap=True)
