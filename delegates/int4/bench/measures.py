"""What was measured beside what was wanted, and both as tables of docs/performance.md.

python -m delegates.int4.bench.measures --results out/bench --document docs/performance.md
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from android_bench.latency import ratio
from delegates.int4.bench.compare import Variant
from delegates.int4.bench.cpu_class import CLASSES

KERNELS = "kernels.json"

_WHOLE_MODELS = (
    "mobilenet_v1",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "efficientnet_lite0",
    "resnet50",
    "transformer",
)
_DENSE = "dense_1x4096x4096"
# Of the time of XNNPACK's int8, by class of CPU.
_OF_INT8 = {"avx2": 0.75, "avx512_vnni": 0.95}
_OF_STOCK_INT4 = 0.15
_OF_STOCK_DENSE = {"i4_dynamic": 1.0, "i4b32_dynamic": 0.4, "i4_weight_only": 0.25}
_OF_BANDWIDTH = 0.8
_TWO_THREADS = 1.7
_PREPARE_MS = 30.0
_OF_INT8_WEIGHTS = 0.55


@dataclass(frozen=True)
class Measure:
    """A figure and its target.

    Attributes:
        where: class of CPU that it was measured as.
        at_least: whether the target is a floor; else it is a ceiling.
        spread: quartiles over rounds, where the figure is a ratio of times.
    """

    name: str
    where: str
    value: float
    target: float
    at_least: bool = False
    unit: str = ""
    spread: tuple[float, float] | None = None

    @property
    def met(self) -> bool:
        return self.value >= self.target if self.at_least else self.value <= self.target

    def cells(self) -> tuple[str, ...]:
        spread = f" ({self.spread[0]:.3f} to {self.spread[1]:.3f})" if self.spread else ""
        sign = "≥" if self.at_least else "≤"
        return (
            self.name,
            self.where,
            f"{self.value:.3f}{self.unit}{spread}",
            f"{sign} {self.target:g}{self.unit}",
            "met" if self.met else "not met",
        )


@dataclass(frozen=True)
class Comparison:
    """The variants of one model, by name, as compare.py wrote them."""

    model: str
    variants: Mapping[str, Mapping[str, Any]]

    def get(self, kind: str, delegate: bool = False, threads: int = 1) -> Mapping[str, Any] | None:
        return self.variants.get(Variant(kind, delegate, threads).name)


@dataclass(frozen=True)
class Run:
    """One file of compare.py."""

    about: Mapping[str, Any]
    comparisons: Mapping[str, Comparison]

    @property
    def where(self) -> str:
        return str(self.about["class"])

    @property
    def target_class(self) -> str | None:
        """The class whose targets hold: what the CPU is once features are hidden."""
        isa = set(self.about["isa"]) - CLASSES[self.where].keys()
        return next((name for name in ("avx512_vnni", "avx2") if name in isa), None)


def read_runs(folder: Path) -> list[Run]:
    """The comparisons that a folder holds, in the order of the classes."""
    runs = []
    for name in CLASSES:
        path = folder / f"{name}.json"
        if path.is_file():
            document = json.loads(path.read_text())
            comparisons = {
                entry["model"]: Comparison(entry["model"], {v["name"]: v for v in entry["variants"]})
                for entry in document.pop("models")
            }
            runs.append(Run(document, comparisons))
    return runs


def measures(runs: Sequence[Run], kernels: Mapping[str, Any]) -> list[Measure]:
    """Everything that has a target, as far as it was measured."""
    found: list[Measure] = []
    for part in (_of_int8, _of_stock, lambda run: _dense(run, kernels)):
        for run in runs:
            found += part(run)
    if runs:
        found += _costs(runs[0])
    return found


def _ratio(
    name: str, run: Run, over: Mapping[str, Any] | None, under: Mapping[str, Any] | None, target: float
) -> Iterator[Measure]:
    if over and under:
        r = ratio(over["rounds_ms"], under["rounds_ms"])
        yield Measure(name, run.where, r["median"], target, spread=(r["q1"], r["q3"]))


def _of_int8(run: Run) -> Iterator[Measure]:
    if run.target_class is None:
        return
    for model in _WHOLE_MODELS:
        if c := run.comparisons.get(model):
            yield from _ratio(
                f"{model}: INT4 of int8's time", run, c.get("i4", True), c.get("i8"), _OF_INT8[run.target_class]
            )


def _of_stock(run: Run) -> Iterator[Measure]:
    for model in _WHOLE_MODELS:
        if c := run.comparisons.get(model):
            yield from _ratio(
                f"{model}: INT4 of stock INT4's time", run, c.get("i4", True), c.get("i4"), _OF_STOCK_INT4
            )


def _dense(run: Run, kernels: Mapping[str, Any]) -> Iterator[Measure]:
    c = run.comparisons.get(_DENSE)
    if c is None:
        return
    for kind, target in _OF_STOCK_DENSE.items():
        yield from _ratio(f"{_DENSE} {kind}: of XNNPACK's time", run, c.get(kind, True), c.get(kind), target)
    for kind in _OF_STOCK_DENSE:
        variant = c.get(kind, True)
        if variant and (bandwidth := bandwidth_for(kernels, variant["bytes"])):
            rate = variant["bytes"] / (variant["median_ms"] / 1e3) / bandwidth
            yield Measure(f"{_DENSE} {kind}: of read bandwidth", run.where, rate, _OF_BANDWIDTH, at_least=True)


def _costs(run: Run) -> Iterator[Measure]:
    if (c := run.comparisons.get("resnet50")) and (one := c.get("i4", True)) and (two := c.get("i4", True, 2)):
        r = ratio(one["rounds_ms"], two["rounds_ms"])
        spread = (r["q1"], r["q3"])
        yield Measure(
            "resnet50: two threads by one", run.where, r["median"], _TWO_THREADS, at_least=True, spread=spread
        )
    if (c := run.comparisons.get("mobilenet_v2")) and (ours := c.get("i4", True)):
        yield Measure("mobilenet_v2: prepare", run.where, ours["prepare_ms"], _PREPARE_MS, unit=" ms")
    for model in _WHOLE_MODELS:
        c = run.comparisons.get(model)
        ours, int8 = (c.get("i4", True), c.get("i8")) if c else (None, None)
        if ours and int8 and (packed := ours["memory"].get("packed_bytes")):
            share = packed / int8["weight_bytes"]
            yield Measure(f"{model}: packed weights of int8's", run.where, share, _OF_INT8_WEIGHTS)


def bandwidth_for(kernels: Mapping[str, Any], size: float) -> float | None:
    """Measured bytes a second of the array nearest to `size` bytes; None where kernels were not measured."""
    found = {
        int(match[1]) * 1024: float(value.split()[0]) * 1e9
        for key, value in kernels.get("context", {}).items()
        if (match := re.fullmatch(r"read bandwidth (\d+) KiB", key))
    }
    return found[min(found, key=lambda measured: abs(math.log(size / measured)))] if found else None


Rows = Iterable[Sequence[str]]


def table(head: Sequence[str], rows: Rows) -> str:
    """A table in Markdown, padded so that it reads as text too."""
    cells = [list(head), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(head))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    return "\n".join([lines[0], "|" + "|".join("-" * (width + 2) for width in widths) + "|", *lines[1:]])


def measure_table(found: Sequence[Measure]) -> str:
    return table(("measure", "CPU as", "measured", "target", ""), (m.cells() for m in found))


def peak_for(kernels: Mapping[str, Any], used: Iterable[str]) -> float | None:
    """Measured products a second of the highest tier among kernels' names; None where kernels were not measured."""
    peaks = {
        match[1]: float(value.split()[0]) * 1e9
        for key, value in kernels.get("context", {}).items()
        if (match := re.fullmatch(r"peak (\w+) \(.*\)", key))
    }
    return max((peak for tier, peak in peaks.items() if any(name.endswith(f"_{tier}") for name in used)), default=None)


def model_table(run: Run, kernels: Mapping[str, Any]) -> str:
    """Milliseconds of each model's variants with static activations, and the delegate's ratios."""
    rows = []
    for c in run.comparisons.values():
        for threads in sorted({v["threads"] for v in c.variants.values()}):
            f32, int8 = c.get("f32", False, threads), c.get("i8", False, threads)
            stock, ours = c.get("i4", False, threads), c.get("i4", True, threads)
            if f32 and int8 and stock and ours:
                peak = peak_for(kernels, ours["kernels"])
                of_peak = ours["macs"] / peak / threads / (ours["median_ms"] / 1e3) if peak else None
                rows.append(
                    (
                        c.model,
                        str(threads),
                        *(f"{v['median_ms']:.2f}" for v in (f32, int8, stock, ours)),
                        *(f"{ratio(ours['rounds_ms'], v['rounds_ms'])['median']:.2f}" for v in (f32, int8, stock)),
                        f"{of_peak:.0%}" if of_peak else "",
                        f"{ours['delegated']}/{ours['nodes']}",
                    )
                )
    times = ("fp32 ms", "int8 ms", "INT4 stock ms", "INT4 delegate ms")
    return table(("model", "threads", *times, "of fp32", "of int8", "of stock", "of peak", "nodes"), rows)


def format_table(run: Run) -> str:
    """Milliseconds of the INT4 formats of dense models, one thread."""
    rows = []
    for c in run.comparisons.values():
        kinds = sorted({v["format"] for v in c.variants.values() if v["format"].startswith("i4")})
        for kind in kinds if len(kinds) > 1 else ():
            stock, ours = c.get(kind), c.get(kind, True)
            if stock and ours:
                of = ratio(ours["rounds_ms"], stock["rounds_ms"])["median"]
                times = (f"{v['median_ms']:.3f}" for v in (stock, ours))
                rows.append((c.model, kind, *times, f"{of:.2f}", f"{ours['delegated']}/{ours['nodes']}"))
    return table(("model", "format", "stock ms", "delegate ms", "of stock", "nodes"), rows)


def kernel_table(kernels: Mapping[str, Any]) -> str:
    """Billions of products (or elements) a second and per cent of the bound, of every kernel but the references."""
    rows = [
        (
            *entry["name"].rpartition("/")[::2],
            f"{entry['items_per_second'] / 1e9:.1f}",
            f"{entry['bound_%']:.0f} %" if "bound_%" in entry else "",
        )
        for entry in kernels["benchmarks"]
        if "_reference/" not in entry["name"]
    ]
    return table(("kernel", "on", "G/s", "of bound"), rows)


def bound_table(kernels: Mapping[str, Any]) -> str:
    """What the machine can do at best."""
    context = kernels["context"]
    return table(("bound", "measured"), [(k, context[k]) for k in context if k.startswith(("peak ", "read "))])


def sections(runs: Sequence[Run], kernels: Mapping[str, Any]) -> dict[str, str]:
    """The parts of docs/performance.md that results fill in, by the name in their markers.

    Each says where it was measured, for a machine makes only the parts that it can.
    """
    found = measures(runs, kernels)
    parts: dict[str, str] = {}
    for run in runs:
        tables = {
            "measures": measure_table([m for m in found if m.where == run.where]),
            "models": model_table(run, kernels),
            "formats": format_table(run),
        }
        parts |= {f"{name} {run.where}": f"{machine(run)}\n\n{text}" for name, text in tables.items()}
    if kernels:
        parts |= {
            "bounds": f"{machine(runs[0])}\n\n{bound_table(kernels)}",
            "kernels": f"{machine(runs[0])}\n\n{kernel_table(kernels)}",
        }
    return parts


def machine(run: Run) -> str:
    """A line that says where a run was measured."""
    about = run.about
    return (
        f"{about['cpu']}, {about['cpus']} CPUs ({' '.join(about['isa'])}); {about['runtime']}; "
        f"commit {about['commit']}; {about['date'][:10]}."
    )


def refresh(text: str, parts: Mapping[str, str]) -> str:
    """Puts each part between its markers, `<!-- bench: NAME -->` and `<!-- end -->`; markers without a part stay."""

    def filled(match: re.Match[str]) -> str:
        part = parts.get(match[1])
        return match[0] if part is None else f"<!-- bench: {match[1]} -->\n{part}\n<!-- end -->"

    return re.sub(r"<!-- bench: ([\w ]+) -->\n.*?<!-- end -->", filled, text, flags=re.DOTALL)


def main() -> None:
    parser = argparse.ArgumentParser(description="Shows what was measured beside what was wanted.")
    parser.add_argument("--results", type=Path, default=Path("out/bench"), help="folder of CLASS.json and kernels.json")
    parser.add_argument("--document", type=Path, help="text whose marked tables are made anew")
    args = parser.parse_args()
    runs = read_runs(args.results)
    if not runs:
        parser.error(f"{args.results}: holds no result of bench.compare ({', '.join(f'{n}.json' for n in CLASSES)})")
    path = args.results / KERNELS
    kernels = json.loads(path.read_text()) if path.is_file() else {}
    found = measures(runs, kernels)
    print(measure_table(found))
    print(f"{sum(m.met for m in found)} of {len(found)} met")
    if args.document:
        args.document.write_text(refresh(args.document.read_text(), sections(runs, kernels)))


if __name__ == "__main__":
    main()
