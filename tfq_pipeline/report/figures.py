"""Figures as SVG text, drawn by matplotlib, in colours that the page's style sheet decides.

Colours are drawn as placeholders and replaced by CSS variables, so that one figure reads on light and on dark ground.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib import resources
from typing import Any

# Placeholder colours by CSS variable; none occurs in a figure by itself.
_COLOURS: Mapping[str, str] = {
    "--ink": "#010101",
    "--soft": "#020202",
    "--line": "#030303",
    "--ground": "#040404",
    "--float": "#050505",
    "--int8": "#060606",
    "--int4": "#070707",
    "--int4-soft": "#080808",
    "--int8-soft": "#090909",
    "--float-soft": "#0a0a0a",
}

_RC = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tfq",
    "font.size": 10,
    "text.color": _COLOURS["--ink"],
    "axes.edgecolor": _COLOURS["--line"],
    "axes.labelcolor": _COLOURS["--soft"],
    "xtick.color": _COLOURS["--soft"],
    "ytick.color": _COLOURS["--ink"],
    "grid.color": _COLOURS["--line"],
    "hatch.color": _COLOURS["--ground"],
    "hatch.linewidth": 1.2,
}

_WIDTH = 7.6
_ROW = 0.30


@dataclass(frozen=True)
class Bar:
    """One horizontal bar: its label, its length, its colour's name, and what is written at its end."""

    label: str
    value: float
    colour: str
    note: str


def bars(rows: Sequence[Bar], unit: str, described: str) -> str:
    """Horizontal bars from zero, the first on top.

    Args:
        rows: at least one.
        unit: under the axis.
        described: the figure in one sentence, for readers who do not see it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(_WIDTH, 0.62 + _ROW * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        places = range(len(rows))
        drawn = axes.barh(places, [r.value for r in rows], height=0.68, color=[_COLOURS[r.colour] for r in rows])
        axes.bar_label(drawn, [f" {r.note}" for r in rows], fontsize=9.5)
        axes.set_yticks(places, [r.label for r in rows])
        axes.invert_yaxis()
        axes.set_xlabel(unit, fontsize=9)
        axes.grid(axis="x", linewidth=0.6)
        axes.set_axisbelow(True)
        low, high = min(0.0, *(r.value for r in rows)), max(0.0, *(r.value for r in rows))
        room = (high - low or 1.0) * 0.30
        axes.set_xlim(low - (room if low < 0 else 0.0), high + room)
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.axvline(0, color=_COLOURS["--soft"], linewidth=0.8)
        axes.tick_params(length=0)
        return _svg(figure, described)


def cells(rows: Sequence[str], columns: Sequence[str], values: Mapping[tuple[str, str], int], described: str) -> str:
    """A grid of bits: a row a model, a column a layer."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    with rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(_WIDTH, 1.25 + _ROW * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for y, row in enumerate(rows):
            for x, column in enumerate(columns):
                bits = values.get((row, column))
                if bits is None:
                    continue
                colour = _COLOURS[bits_colour(bits)]
                axes.add_patch(Rectangle((x + 0.04, y + 0.06), 0.92, 0.88, facecolor=colour, linewidth=0))
                axes.text(
                    x + 0.5, y + 0.53, str(bits), ha="center", va="center", color=_COLOURS["--ground"], fontsize=9
                )
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        axes.set_xticks([x + 0.5 for x in range(len(columns))], columns, rotation=40, ha="right", fontsize=8.5)
        axes.set_yticks([y + 0.5 for y in range(len(rows))], rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure, described)


@dataclass(frozen=True)
class Trace:
    """One small curve: its label, its values, its colour's name, and what is written at its end."""

    label: str
    values: Sequence[float]
    colour: str
    note: str


def traces(rows: Sequence[Trace], places: Sequence[float], low: float, high: float, unit: str, described: str) -> str:
    """Small curves one under the other, all from `low` to `high`.

    Args:
        rows: at least one, each with a value for each place.
        places: along the axis, ascending.
        low, high: what the foot and the top of a row stand for.
        unit: of the places, under the axis.
        described: the figure in one sentence, for readers who do not see it.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context(_RC):  # type: ignore[arg-type]
        figure = Figure(figsize=(_WIDTH, 0.62 + _ROW * len(rows)), layout="constrained")
        axes = figure.add_subplot()
        for number, row in enumerate(rows):
            foot = number + 0.9
            heights = [foot - 0.8 * (value - low) / (high - low) for value in row.values]
            axes.axhline(foot, color=_COLOURS["--line"], linewidth=0.6)
            axes.plot(places, heights, color=_COLOURS[row.colour], linewidth=1.4)
            axes.text(places[-1], heights[-1], f"  {row.note}", va="center", color=_COLOURS["--ink"], fontsize=9.5)
        axes.set_yticks([number + 0.5 for number in range(len(rows))], [row.label for row in rows], fontsize=8.5)
        axes.set_ylim(len(rows), 0)
        axes.set_xlim(places[0], places[-1] + 0.15 * ((places[-1] - places[0]) or 1.0))
        axes.set_xlabel(unit, fontsize=9)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)
        return _svg(figure, described)


def colours() -> str:
    """The style sheet that says what the colours' names stand for, on light and on dark ground."""
    return (resources.files("tfq_pipeline.report") / "colours.css").read_text("utf-8")


def standalone(svg: str) -> str:
    """A figure that brings its colours along."""
    end = svg.index(">") + 1
    return f"{svg[:end]}<style>{colours()}</style>{svg[end:]}"


def bits_colour(bits: int | None) -> str:
    """Name of the colour that stands for a width."""
    return "--float" if bits is None or bits > 8 else "--int8" if bits > 4 else "--int4"


def _svg(figure: Any, described: str) -> str:
    buffer = io.StringIO()
    nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
    figure.savefig(buffer, format="svg", metadata=nothing, transparent=True)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    for variable, colour in _COLOURS.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font-family:[^;\"]*;?", "", text)
    text = re.sub(r"(font: [\d.]+px) [^;\"]*", r"\1 var(--sans)", text)
    box = re.search(r'viewBox="([^"]*)"', text)
    if box is None:
        raise ValueError("matplotlib wrote an SVG without a view box")
    opening = f'<svg viewBox="{box[1]}" role="img" aria-label="{escape(described)}" xmlns="http://www.w3.org/2000/svg">'
    return opening + text[text.index(">") + 1 :].replace("xlink:href", "href")
