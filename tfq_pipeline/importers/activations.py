"""Which layer stands for which activation: one table for both Kerases.

Names have Keras 3's meaning. Keras 2's hard sigmoid, clip(0.2 x + 0.5, 0, 1), is another function than
Keras 3's, relu6(x + 3) / 6, and has a name of its own here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

KERAS2_HARD_SIGMOID = "keras2_hard_sigmoid"

# name -> (layer kind, config); "Op" is an OpLayer.
ACTIVATIONS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "relu": ("ReLU", {}),
    "relu6": ("ReLU", {"max_value": 6.0}),
    "leaky_relu": ("LeakyReLU", {"alpha": 0.2}),
    "hard_silu": ("HardSwish", {}),
    "hard_swish": ("HardSwish", {}),
    "hard_sigmoid": ("HardSigmoid", {}),
    KERAS2_HARD_SIGMOID: ("Activation", {"activation": "hard_sigmoid"}),
    "silu": ("Activation", {"activation": "swish"}),
    "swish": ("Activation", {"activation": "swish"}),
    "softmax": ("Softmax", {"axis": -1}),
    **{
        name: ("Activation", {"activation": name})
        for name in ("sigmoid", "tanh", "softplus", "softsign", "elu", "selu", "exponential", "gelu", "mish")
    },
    **{
        name: ("Op", {"op": name, "arguments": {}})
        for name in (
            "celu",
            "glu",
            "hard_shrink",
            "hard_tanh",
            "log_sigmoid",
            "log_softmax",
            "soft_shrink",
            "squareplus",
            "tanh_shrink",
        )
    },
}

# Activations that stay inside a convolution or dense layer: the ones a TFLite kernel can fuse.
FUSED = ("linear", "relu", "relu6")

# Names that tf_keras' recurrent layers read with the same meaning as Keras 3; theirs cannot be split off.
RECURRENT = ("linear", "relu", "sigmoid", "tanh", "softplus", "softsign", "elu", "selu", "exponential", "swish", "gelu")
