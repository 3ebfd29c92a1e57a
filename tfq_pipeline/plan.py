"""The Plan: every decision about quantization as plain data.

It is what passes fill in, what QAT starts from and ends in, what lowering writes into the file and what the report
explains. It names tensors after the layers that own them, so it holds for any graph with the same names.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from tfq_pipeline.errors import BadInput
from tfq_pipeline.numerics.affine import Affine, dequantize, quantize
from tfq_pipeline.numerics.grouping import from_groups, to_groups

Scheme = Literal["uniform", "float"]
Granularity = Literal["tensor", "channel", "group"]

_FORMAT = 3


@dataclass(frozen=True, eq=False)
class TensorPlan:
    """How one tensor is quantized.

    Attributes:
        bits: width of the integers; 32 for a tensor that stays float.
        scheme: how integers stand for reals; "float" leaves the tensor alone.
        granularity: what one scale covers.
        affine: scales and zero points, None for "float"; of groups those of `numerics.grouping`, [channels * groups].
        values: the integers themselves where a pass chose them; None leaves them to rounding to nearest.
        group_size: input channels that share a scale; None unless granularity is "group".
        decoded: whether a layer that computes in float reads the weights decoded to float ("weight only") instead of
            quantizing what they meet ("dynamic range"). Without meaning where the layer computes in integers.
        kept: of pruned weights, bool of the tensor's shape: where it is False, a weight is 0 and stays it. None where
            none were pruned.
    """

    bits: int
    scheme: Scheme = "uniform"
    granularity: Granularity = "tensor"
    affine: Affine | None = None
    values: np.ndarray | None = None
    group_size: int | None = None
    decoded: bool = False
    kept: np.ndarray | None = None

    @property
    def is_float(self) -> bool:
        return self.scheme == "float"

    def integers(self, real: np.ndarray) -> np.ndarray:
        """The integers that stand for `real`, of its shape: those that a pass chose, else the nearest.

        Raises:
            ValueError: for a tensor that stays float.
        """
        if self.values is not None:
            return self.values
        if self.affine is None:
            raise ValueError(f"a tensor planned as {self.scheme} has no integers")
        real = self.pruned(real)
        if self.group_size is None:
            return quantize(real, self.affine)
        return from_groups(quantize(to_groups(real, self.group_size), self.affine), real.shape)

    def pruned(self, real: np.ndarray) -> np.ndarray:
        """`real`, 0 where the plan says so."""
        return real if self.kept is None else np.where(self.kept, real, np.zeros((), real.dtype))

    def limits(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest integer that each value may take, of a tensor's shape: of a pruned one both are
        what stands for 0.

        Raises:
            ValueError: for a tensor that stays float.
        """
        if self.affine is None:
            raise ValueError(f"a tensor planned as {self.scheme} has no integers")
        low, high = np.full(shape, self.affine.qmin), np.full(shape, self.affine.qmax)
        if self.kept is None:
            return low, high
        zeros = replace(self, values=None).integers(np.zeros(shape, np.float32))
        return np.where(self.kept, low, zeros), np.where(self.kept, high, zeros)

    def grid(self, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """What one step of each value is worth, and what integer 0 stands for, float32 of a tensor's shape."""
        zeros, ones = (replace(self, values=np.full(shape, q, np.int8)).represented(np.empty(shape)) for q in (0, 1))
        return ones - zeros, zeros

    def represented(self, real: np.ndarray) -> np.ndarray:
        """The real values, float32, that the file will hold for `real`."""
        if self.affine is None:
            return np.asarray(real, np.float32)
        integers = self.integers(real)
        if self.group_size is None:
            return dequantize(integers, self.affine)
        return from_groups(dequantize(to_groups(integers, self.group_size), self.affine), integers.shape)


FLOAT = TensorPlan(32, "float")


@dataclass(frozen=True, eq=False)
class Plan:
    """The decision for a whole model.

    Attributes:
        weights: by linear layer. TFLite layout.
        activations: by the layer that writes the tensor; only tensors with a scale of their own stand here. Where a
            layer computes in float and others read its tensor as integers, this is what it is quantized to for them.
        floats: layers that read and write floats: float layers, and layers with quantized weights under dynamic range
            or weight-only quantization. All others compute in integers.
        reasons: by layer, why it stays float or has other bits than asked.
    """

    weights: Mapping[str, TensorPlan] = field(default_factory=dict)
    activations: Mapping[str, TensorPlan] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    reasons: Mapping[str, str] = field(default_factory=dict)

    def with_weights(self, updates: Mapping[str, TensorPlan]) -> Plan:
        return replace(self, weights={**self.weights, **updates})

    def with_activations(self, updates: Mapping[str, TensorPlan]) -> Plan:
        return replace(self, activations={**self.activations, **updates})

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the plan as a zip of one JSON document and raw arrays; the file appears whole or not at all."""
        arrays: dict[str, np.ndarray] = {}
        document = {
            "format": _FORMAT,
            "weights": {name: _to_json(f"w{i}", t, arrays) for i, (name, t) in enumerate(self.weights.items())},
            "activations": {name: _to_json(f"a{i}", t, arrays) for i, (name, t) in enumerate(self.activations.items())},
            "floats": sorted(self.floats),
            "reasons": dict(self.reasons),
        }
        beside = f"{os.fspath(path)}.partial"
        try:
            with open(beside, "wb") as file:
                np.savez(file, **{**arrays, "plan": np.frombuffer(json.dumps(document).encode(), np.uint8)})
            os.replace(beside, path)
        finally:
            if os.path.exists(beside):
                os.unlink(beside)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Reads what `save` wrote.

        Raises:
            BadInput: for a file that is missing, is no plan, or is of another format version.
        """
        try:
            with np.load(path, allow_pickle=False) as stored:
                arrays = dict(stored)
            document = json.loads(arrays.pop("plan").tobytes())
        except FileNotFoundError:
            raise BadInput(
                f"{os.fspath(path)}: no such plan file; 'tfq quantize --report DIR' writes one as DIR/plan.npz"
            ) from None
        except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise BadInput(
                f"{os.fspath(path)}: not a plan file ({error}); give one that 'tfq quantize --report DIR' wrote"
            ) from error
        if document.get("format") != _FORMAT:
            raise BadInput(
                f"{os.fspath(path)}: plan format {document.get('format')}, this version reads {_FORMAT}; "
                "make the plan again"
            )
        return cls(
            {name: _from_json(entry, arrays) for name, entry in document["weights"].items()},
            {name: _from_json(entry, arrays) for name, entry in document["activations"].items()},
            frozenset(document["floats"]),
            document["reasons"],
        )


@dataclass(frozen=True)
class Difference:
    """One entry in which two plans differ: tensor kind ("weights", "activations"), layer, and what each says."""

    kind: str
    layer: str
    left: str
    right: str


def compare(left: Plan, right: Plan) -> tuple[Difference, ...]:
    """Where two plans differ, in the order of `left`, then what only `right` has."""
    found = []
    for kind in ("weights", "activations"):
        a, b = getattr(left, kind), getattr(right, kind)
        for name in dict.fromkeys([*a, *b]):
            if name not in a or name not in b or not _equal(a[name], b[name]):
                found.append(Difference(kind, name, _describe(a.get(name)), _describe(b.get(name))))
    return tuple(found)


def _equal(a: TensorPlan, b: TensorPlan) -> bool:
    if any(getattr(a, name) != getattr(b, name) for name in _PLAIN):
        return False
    same_values = _same(a.values, b.values) and _same(a.kept, b.kept)
    if a.affine is None or b.affine is None:
        return same_values and a.affine is b.affine
    return (
        same_values
        and np.array_equal(a.affine.scale, b.affine.scale)
        and np.array_equal(a.affine.zero_point, b.affine.zero_point)
    )


def _same(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b if a is None or b is None else np.array_equal(a, b)


# Attributes that are numbers and text.
_PLAIN = ("bits", "scheme", "granularity", "group_size", "decoded")


def _describe(tensor: TensorPlan | None) -> str:
    if tensor is None:
        return "not planned"
    pruned = "" if tensor.kept is None else f", {1.0 - tensor.kept.mean():.1%} pruned"
    if tensor.affine is None:
        return tensor.scheme + pruned
    covers = tensor.granularity if tensor.group_size is None else f"group of {tensor.group_size}"
    scale, zero_point = _span(tensor.affine.scale), _span(tensor.affine.zero_point)
    return f"{tensor.bits} bits per {covers}, scale {scale}, zero point {zero_point}{pruned}"


def _span(values: np.ndarray) -> str:
    low, high = f"{values.min():.6g}", f"{values.max():.6g}"
    return low if values.size == 1 or low == high == "0" else f"{low}..{high}"


def _to_json(key: str, tensor: TensorPlan, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: getattr(tensor, name) for name in _PLAIN}
    if tensor.affine is not None:
        affine = tensor.affine
        arrays[f"{key}_scale"], arrays[f"{key}_zero_point"] = affine.scale, affine.zero_point
        entry["affine"] = {"key": key, "axis": affine.axis, "symmetric": affine.symmetric, "narrow": affine.narrow}
    if tensor.values is not None:
        arrays[f"{key}_values"] = tensor.values
        entry["values"] = f"{key}_values"
    if tensor.kept is not None:
        arrays[f"{key}_kept"] = tensor.kept
        entry["kept"] = f"{key}_kept"
    return entry


def _from_json(entry: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> TensorPlan:
    affine = None
    if "affine" in entry:
        a = entry["affine"]
        affine = Affine(
            entry["bits"],
            arrays[f"{a['key']}_scale"],
            arrays[f"{a['key']}_zero_point"],
            a["axis"],
            a["symmetric"],
            a["narrow"],
        )
    values, kept = (arrays[entry[name]] if name in entry else None for name in ("values", "kept"))
    return TensorPlan(affine=affine, values=values, kept=kept, **{name: entry[name] for name in _PLAIN})
