"""What the INT4 delegate takes of a model, and why not the rest, as the delegate itself says."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from tfq_pipeline.errors import TfqError


def delegation(data: bytes) -> dict[str, Any]:
    """Loads a model with the delegate and reads its report.

    Returns:
        {"delegated", "total", "declined": [{"node", "op", "reason"}], "taken": [{"node", "op", "kernel"}]}, or
        {"unavailable": why} where the delegate or the model does not load here.
    """
    from ai_edge_litert.interpreter import Interpreter

    from tfq_pipeline.delegate import load

    with tempfile.TemporaryDirectory(prefix="tfq-") as folder:
        path = os.path.join(folder, "report.json")
        try:
            Interpreter(model_content=data, experimental_delegates=[load(report=path)])
        except (TfqError, RuntimeError, ValueError) as error:
            return {"unavailable": " ".join(str(error).split())}
        if not os.path.exists(path):
            return {"unavailable": "the runtime did not ask the delegate"}
        with open(path, encoding="utf-8") as file:
            report: dict[str, Any] = json.load(file)
    return report
