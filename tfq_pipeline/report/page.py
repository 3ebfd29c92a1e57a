"""The page of a run: what the documents say, arranged for reading."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tfq_pipeline.errors import BadInput
from tfq_pipeline.plan import Plan
from tfq_pipeline.report import figures
from tfq_pipeline.report.figures import Bar, Trace
from tfq_pipeline.report.run import FILE, document_of, load, whole_folder, with_runs

PAGE = "report.html"
FLOAT = "float"


def publish(directory: str | os.PathLike[str], document: Mapping[str, Any], plan: Plan | None = None) -> Path:
    """Writes a run folder, all of it or nothing: ``run.json``, ``plan.npz`` and ``report.html``.

    Args:
        directory: made where it is missing; files of an older run in it are replaced.
        document: a quantize document, or one with the keys that `report.run` lists.
        plan: stored where it is given.

    Returns:
        Path of the page.

    Raises:
        BadInput: the folder cannot be made or written to.
    """
    run = document_of(document)
    with whole_folder(directory) as folder:
        (folder / FILE).write_text(json.dumps(run, indent=1) + "\n", "utf-8")
        if plan is not None:
            plan.save(folder / "plan.npz")
        (folder / PAGE).write_text(page(with_runs(run)), "utf-8")
    return Path(directory) / PAGE


def render(directory: str | os.PathLike[str]) -> Path:
    """Writes ``report.html`` anew from ``run.json`` beside it and returns its path.

    Raises:
        BadInput: the folder holds no run, or cannot be written to.
    """
    run = load(directory)
    try:
        text = page(run)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        found = f"{type(error).__name__}: {error}"
        raise BadInput(
            f"{Path(directory) / FILE}: is no whole run ({found}); write it again with 'tfq quantize --report'"
        ) from error
    with whole_folder(directory) as folder:
        (folder / PAGE).write_text(text, "utf-8")
    return Path(directory) / PAGE


def page(run: Mapping[str, Any]) -> str:
    """The HTML of a run with a list `runs`; it needs no other file and no network."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    templates = resources.files("tfq_pipeline.report")
    template = environment.from_string((templates / "page.html.j2").read_text("utf-8"))
    return template.render(style=figures.colours() + (templates / "page.css").read_text("utf-8"), **view(run))


def pictures(document: Mapping[str, Any]) -> dict[str, str]:
    """The page's figures as SVG files of their own, by file name, for other pages to show.

    Args:
        document: as for `publish`.
    """
    run = with_runs(document)
    made = _figures(run["runs"], run.get("benchmarks", []))
    return {re.sub(r"\W+", "-", f["title"].lower()) + ".svg": figures.standalone(f["svg"]) for f in made}


def view(run: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the template shows, as plain values, ready-made text and SVG."""
    runs, benchmarks = run["runs"], run.get("benchmarks", [])
    agreement = {model_name(a["model"]): a for a in run.get("agreement", [])}
    return {
        "title": run.get("title") or f"{Path(str(runs[0].get('model', 'model'))).name}, quantized",
        "created": run.get("created", ""),
        "headline": headline(runs, benchmarks, run.get("agreement", [])),
        "summary": [_summary(r, agreement.get(r["recipe"]), benchmarks) for r in runs],
        "float_row": _float_row(runs, benchmarks),
        "figures": _figures(runs, benchmarks),
        "details": [_detail(r) for r in runs],
        "benchmarks": [_benchmark(b) for b in benchmarks],
        "declined": _declined(benchmarks),
        "emulated": any(b["emulated"] for b in benchmarks),
        "provenance": _provenance(run),
    }


def model_name(path: str) -> str:
    """A model in tables: its file's name without the ending."""
    return Path(path).stem


def headline(
    runs: Sequence[Mapping[str, Any]], benchmarks: Sequence[Mapping[str, Any]], agreement: Sequence[Mapping[str, Any]]
) -> list[dict[str, str]]:
    """The few figures on top: each a value, and what it is of."""
    smallest = min(r["inspect"]["size_bytes"] for r in runs)
    # Recipes of the same bits differ by some bytes; of those, the most accurate one is what a user would take.
    small = [r for r in runs if r["inspect"]["size_bytes"] <= 1.02 * smallest]
    best = min(small, key=_drop_or_zero)
    ratio = best["inspect"]["size_bytes"] / best["inspect"]["float_size_bytes"]
    cards = [{"value": f"{ratio:.3f}", "label": f"of the float file's size, with {best['recipe']}"}]
    if _drop(best) is not None:
        cards.append(
            {"value": f"{_drop_or_zero(best):+.2f}", "label": f"points of accuracy lost, with {best['recipe']}"}
        )
    speedups = [s for r in runs if (s := speed_up(benchmarks, r["recipe"], emulated=False)) is not None]
    if speedups:
        cards.append(
            {"value": f"{max(speedups):.2f}x", "label": "faster with the INT4 delegate, on the host, one thread"}
        )
    if agreement:
        compared, differing = sum(a["samples"] for a in agreement), sum(a["differing"] for a in agreement)
        cards.append(
            {"value": f"{differing}", "label": f"of {compared:,} outputs differ between the delegate and the runtime"}
        )
    return cards


def speed_up(benchmarks: Sequence[Mapping[str, Any]], name: str, emulated: bool) -> float | None:
    """Median latency without the delegate over that with it; None where one of the two is missing."""
    by_delegate = {
        b["delegate"]: b["latency_ms"]["median"]
        for b in benchmarks
        if model_name(b["model"]) == name and b["emulated"] == emulated
    }
    return by_delegate[None] / by_delegate["int4"] if {None, "int4"} <= set(by_delegate) else None


def _drop(run: Mapping[str, Any]) -> float | None:
    drop: float | None = run.get("metrics", {}).get("accuracy_drop")
    return drop


def _drop_or_zero(run: Mapping[str, Any]) -> float:
    return _drop(run) or 0.0


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _latency(benchmarks: Sequence[Mapping[str, Any]], name: str, delegate: str | None) -> str:
    """Median on this machine, as text."""
    found = [
        b["latency_ms"]["median"]
        for b in benchmarks
        if model_name(b["model"]) == name and b["delegate"] == delegate and not b["emulated"]
    ]
    return f"{found[0]:.3f}" if found else "–"


def _summary(
    run: Mapping[str, Any], agreement: Mapping[str, Any] | None, benchmarks: Sequence[Mapping[str, Any]]
) -> dict[str, str]:
    inspected, drop = run["inspect"], _drop(run)
    bits = sorted({w["bits"] for w in inspected["weights"]})
    return {
        "name": run["recipe"],
        "bits": " and ".join(map(str, bits)),
        "size": f"{inspected['size_bytes']:,}",
        "ratio": f"{inspected['size_bytes'] / inspected['float_size_bytes']:.3f}",
        "accuracy": _percent(run.get("metrics", {}).get("quantized", {}).get("accuracy")),
        "drop": "–" if drop is None else f"{drop:+.2f}",
        "plain": _latency(benchmarks, run["recipe"], None),
        "delegated": _latency(benchmarks, run["recipe"], "int4"),
        "equal": "–"
        if agreement is None
        else f"{agreement['samples'] - agreement['differing']:,} of {agreement['samples']:,}",
    }


def _float_row(runs: Sequence[Mapping[str, Any]], benchmarks: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    first = runs[0]
    return {
        "size": f"{first['inspect']['float_size_bytes']:,}",
        "accuracy": _percent(first.get("metrics", {}).get("float", {}).get("accuracy")),
        "plain": _latency(benchmarks, FLOAT, None),
    }


def _figures(runs: Sequence[Mapping[str, Any]], benchmarks: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    made = [_sizes(runs)]
    if any(_drop(r) is not None for r in runs):
        made.insert(0, _drops(runs))
    made.append(_bits(runs))
    made += [_learned(r["recipe"], p) for r in runs for p in r["passes"] if p.get("trajectory", {}).get("step")]
    for emulated in (False, True):
        chosen = [b for b in benchmarks if b["emulated"] == emulated]
        if chosen:
            made.append(_latencies(runs, chosen, emulated))
    return made


def _colour(run: Mapping[str, Any]) -> str:
    return figures.bits_colour(min((w["bits"] for w in run["inspect"]["weights"]), default=None))


def _drops(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    baseline = _percent(runs[0]["metrics"]["float"]["accuracy"])
    rows = [
        Bar(
            r["recipe"],
            _drop_or_zero(r),
            _colour(r),
            f"{_drop_or_zero(r):+.2f}, {_percent(r['metrics']['quantized']['accuracy'])}",
        )
        for r in runs
        if _drop(r) is not None
    ]
    return {
        "title": "Accuracy lost",
        "caption": f"Points of accuracy, float minus quantized; shorter is better. The float model reaches {baseline}.",
        "svg": figures.bars(rows, "points of accuracy lost", "Accuracy lost by each recipe"),
    }


def _sizes(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    whole = runs[0]["inspect"]["float_size_bytes"]
    rows = [Bar(FLOAT, whole / 1000, "--float", f"{whole / 1000:.0f} kB")]
    for r in runs:
        size = r["inspect"]["size_bytes"]
        ratio = size / r["inspect"]["float_size_bytes"]
        rows.append(Bar(r["recipe"], size / 1000, _colour(r), f"{size / 1000:.0f} kB, {ratio:.3f} of float"))
    return {
        "title": "File size",
        "caption": "The whole .tflite: weights, biases, scales, structure and metadata.",
        "svg": figures.bars(rows, "kB", "File size of the float model and of each recipe"),
    }


def _bits(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    layers = list(dict.fromkeys(_layer(w) for r in runs for w in r["inspect"]["weights"]))
    values = {(r["recipe"], _layer(w)): w["bits"] for r in runs for w in r["inspect"]["weights"]}
    return {
        "title": "Bits of each layer's weights",
        "caption": "Read back from the files, in the order of execution.",
        "svg": figures.cells([r["recipe"] for r in runs], layers, values, "Bits of the weights by recipe and layer"),
    }


def _learned(recipe: str, learned: Mapping[str, Any]) -> dict[str, str]:
    """The bits of each layer over the steps of a pass that learned them."""
    trajectory, final = learned["trajectory"], learned["bits"]
    rows = [
        Trace(layer, values, figures.bits_colour(final[layer]), str(final[layer]))
        for layer, values in trajectory["bits"].items()
    ]
    bits = [value for row in rows for value in row.values]
    ((cost, share),) = learned["budget"].items()
    at_bits, in_file = (learned["kilobytes"][kind] for kind in ("at their bits", "in the file"))
    low, high = min(bits), max(max(bits), min(bits) + 1.0)
    return {
        "title": f"Bits learned by {recipe}",
        "caption": f"From {low:.1f} (foot of a row) to {high:.1f} bits, and the width that was taken; {cost} held to "
        f"{share:g} of the plan's. Weights at their bits went from {at_bits[0]:.1f} to {at_bits[1]:.1f} kB, "
        f"in the file, which holds 2 and 3 bits as 4, from {in_file[0]:.1f} to {in_file[1]:.1f} kB.",
        "svg": figures.traces(
            rows, trajectory["step"], low, high, "training steps", "Bits of each layer over training"
        ),
    }


def _layer(weight: Mapping[str, Any]) -> str:
    return str(weight["layer"] or weight["tensor"]).rsplit("/", 1)[-1]


def _latencies(
    runs: Sequence[Mapping[str, Any]], benchmarks: Sequence[Mapping[str, Any]], emulated: bool
) -> dict[str, str]:
    colours = {FLOAT: "--float", **{r["recipe"]: _colour(r) for r in runs}}
    rows = []
    for b in benchmarks:
        name, median = model_name(b["model"]), b["latency_ms"]["median"]
        colour = colours.get(name, "--int8")
        delegated = f" + {b['delegate']} delegate" if b["delegate"] else ""
        rows.append(
            Bar(f"{name}{delegated}", median, colour if b["delegate"] else f"{colour}-soft", f"{median:.3f} ms")
        )
    first = benchmarks[0]
    threads = f"{first['threads']} thread{'s' if first['threads'] > 1 else ''}"
    where = f"{first['cpu'] or first['device']}, {first['runtime']} {first['runtime_version'] or ''}, {threads}"
    title = "Latency on the emulated arm64 device" if emulated else "Latency on this machine"
    warning = (
        " Emulated: it shows that the files run there and agree, and says nothing about the speed of a phone."
        if emulated
        else ""
    )
    return {
        "title": title,
        "caption": f"Median of at least {min(b['num_runs'] for b in benchmarks)} runs; {where}.{warning}",
        "svg": figures.bars(rows, "milliseconds an inference", title),
    }


def _detail(run: Mapping[str, Any]) -> dict[str, Any]:
    inspected, checked = run["inspect"], run.get("verification", {})
    facts = [
        ("unfolded batch norms", str(inspected["unfolded_batch_norms"])),
        ("float ops", str(inspected["float_ops"])),
        ("ops", ", ".join(f"{name} {count}" for name, count in inspected["ops"].items())),
        ("passes", ", ".join(f"{p['name']} {p['seconds']:.1f} s" for p in run["passes"])),
    ]
    if checked:
        agreed = f"argmax agrees on {_percent(checked['argmax_agreement'])} of {checked['samples']} samples"
        found = f"largest error {checked['max_abs_error_lsb']:g} LSB, {agreed}"
        facts.insert(0, ("against the fake-quantized model", found))
    if "test" in checked:
        whole = checked["test"]
        agreed = f"argmax agrees on {_percent(whole['argmax_agreement'])} of {whole['samples']:,} samples"
        found = f"mean error {whole['mean_abs_error_lsb']:g} LSB, largest {whole['max_abs_error_lsb']:g}, {agreed}"
        gap = run["metrics"].get("accuracy_gap")
        facts.insert(1, ("the same on the whole test set", found))
        if gap is not None:
            facts.insert(2, ("accuracy gap to the fake-quantized model", f"{gap:+.2f} points"))
    return {
        "name": run["recipe"],
        "facts": facts,
        "weights": [
            {
                "layer": _layer(w),
                "op": w["op"],
                "shape": " x ".join(map(str, w["shape"])),
                "bits": w["bits"],
                "granularity": w["granularity"],
                "bytes": f"{w['bytes']:,}",
            }
            for w in inspected["weights"]
        ],
        "outliers": [
            {
                "tensor": entry["tensor"].rsplit("/", 1)[-1],
                "kind": entry["kind"],
                "peak": f"{entry['peak']:.2f}",
                "kurtosis": f"{entry['kurtosis']:.1f}",
                "channels": ", ".join(f"{c['channel']} ({c['ratio']:.1f}x)" for c in entry["channels"]) or "–",
            }
            for entry in sorted(run.get("outliers", []), key=lambda entry: -entry["peak"])
        ],
    }


def _benchmark(entry: Mapping[str, Any]) -> dict[str, str]:
    latency, nodes = entry["latency_ms"], entry["nodes"]
    peak = entry["memory"].get("peak_mb")
    return {
        "model": model_name(entry["model"]),
        "device": f"{entry['device']} (emulated)"
        if entry["emulated"] and "emul" not in entry["device"]
        else entry["device"],
        "delegate": entry["delegate"] or "none",
        "nodes": "–"
        if nodes["delegated"] is None or not entry["delegate"]
        else f"{nodes['delegated']} of {nodes['total']}",
        "peak": "–" if peak is None else f"{peak:.1f}",
        **{key: f"{latency[key]:.3f}" for key in ("median", "p5", "p95", "stddev", "first", "init")},
    }


def _declined(benchmarks: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Why nodes stayed with the runtime: op, reason, and the models in which it happened."""
    found: dict[tuple[str, str], list[str]] = {}
    for b in benchmarks:
        for entry in b["nodes"]["declined"]:
            models = found.setdefault((entry["op"], entry["reason"]), [])
            if model_name(b["model"]) not in models:
                models.append(model_name(b["model"]))
    return [{"op": op, "reason": reason, "models": ", ".join(models)} for (op, reason), models in found.items()]


def _provenance(run: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = [("model", str(run["runs"][0].get("model", ""))), ("seed", str(run["runs"][0].get("seed", 0)))]
    for role, data in run["runs"][0].get("data", {}).items():
        name = data.get("name") or data.get("path") or data.get("function") or "given in memory"
        split = f", split {data['split']}" if "split" in data else ""
        samples = f", {data['samples']:,} samples" if isinstance(data.get("samples"), int) else ""
        sums = data.get("sha256", {})
        digest = ", ".join(f"{k} {v[:12]}" for k, v in sums.items()) if isinstance(sums, dict) else str(sums)[:12]
        facts.append((f"data: {role}", f"{name}{split}{samples}{f', sha256 {digest}' if digest else ''}"))
    host = run.get("host", {})
    if host:
        facts.append(("machine", f"{host['processor']}, {host['cores']} cores, {host['system']}"))
    for b in {b["device"]: b for b in run.get("benchmarks", [])}.values():
        info = b.get("device_info", {})
        emulator = f", emulated by {info.get('emulator') or 'qemu'}" if b["emulated"] else ""
        features = " ".join(info.get("isa", []))
        facts.append((f"device: {b['device']}", f"{b['cpu'] or '?'}, {info.get('abi', '?')}, {features}{emulator}"))
    facts += [(name, number) for name, number in run.get("versions", {}).items()]
    return facts
