"""What the project writes into a .tflite beside the model: where each tensor came from and what it was before."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from tfq_pipeline.tflite import flatbuffer as fb

KEY = "tfq"


def write(model: Any, document: Mapping[str, Any]) -> None:
    """Stores a JSON document in the model's metadata, in place of an older one."""
    schema = fb.schema()
    entries = [m for m in model.metadata or [] if fb.text(m.name) != KEY]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(json.dumps(document, separators=(",", ":")).encode(), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = KEY, len(model.buffers) - 1
    model.metadata = [*entries, entry]


def read(model: Any) -> dict[str, Any]:
    """The stored document; empty for a file that another program made."""
    for entry in model.metadata or []:
        if fb.text(entry.name) == KEY:
            document: dict[str, Any] = json.loads(bytes(np.asarray(model.buffers[entry.buffer].data, np.uint8)))
            return document
    return {}
