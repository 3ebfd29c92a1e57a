"""SavedModels without Keras layers, as float .tflite through TFLiteConverter."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

from tfq_pipeline.errors import BadInput


def to_tflite(path: Path) -> bytes:
    """The float .tflite of the folder's signature ``serving_default``, or of its only one.

    Raises:
        BadInput: when there is no such signature, or TensorFlow or the converter refuses the folder.
    """
    import tensorflow as tf

    said = io.StringIO()
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            names = list(tf.saved_model.load(str(path)).signatures)
            chosen = "serving_default" if "serving_default" in names else names[0] if len(names) == 1 else None
            if chosen is None:
                found = f"signatures {', '.join(names)}" if names else "no signature"
                raise BadInput(f"{path}: the SavedModel has {found}; save it with one named serving_default")
            converter = tf.lite.TFLiteConverter.from_saved_model(str(path), signature_keys=[chosen])
            return bytes(converter.convert())
    except BadInput:
        raise
    except Exception as error:  # TensorFlow raises a class of its own for every refusal
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise BadInput(
            f"{path}: TFLiteConverter refused the SavedModel: {first[:200]}; convert it to .tflite"
        ) from error
