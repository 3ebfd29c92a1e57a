"""The example's float nets: one of each kind that phones run, small enough to keep their weights in the project.

All read an image [28, 28, 1] in 0..1 and give logits [10]; all have BatchNormalization after every convolution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def _norm(x: Any, name: str, activation: str | None) -> Any:
    from keras import layers

    x = layers.BatchNormalization(momentum=0.95, name=f"{name}_bn")(x)
    if activation == "relu6":
        return layers.ReLU(6.0, name=f"{name}_relu6")(x)
    return layers.Activation(activation, name=f"{name}_{activation}")(x) if activation else x


def _conv(
    x: Any, filters: int, name: str, kernel: int = 1, stride: int = 1, activation: str | None = "relu6", groups: int = 1
) -> Any:
    from keras import layers

    x = layers.Conv2D(filters, kernel, stride, padding="same", groups=groups, use_bias=False, name=name)(x)
    return _norm(x, name, activation)


def _depthwise(x: Any, name: str, kernel: int = 3, stride: int = 1, activation: str | None = "relu6") -> Any:
    from keras import layers

    x = layers.DepthwiseConv2D(kernel, stride, padding="same", use_bias=False, name=name)(x)
    return _norm(x, name, activation)


def _classify(image: Any, x: Any, name: str, dropout: float = 0.1) -> Any:
    import keras
    from keras import layers

    x = layers.GlobalAveragePooling2D(name="pool")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, layers.Dense(10, name="logits")(x), name=name)


def _image() -> Any:
    import keras

    return keras.Input((28, 28, 1), name="image")


def mobilenet() -> Any:
    """A small MobileNet with the fused blocks of MobileNetEdgeTPU (Howard 2017, Sandler 2018).

    Few wide layers rather than many narrow ones: at 4 bits the scale and bias of a channel weigh as much as 56 weights.
    """
    from keras import layers

    image = _image()
    x = _conv(image, 24, "stem", kernel=3, stride=2)
    x = _conv(x, 64, "fused", kernel=3)
    y = _conv(_depthwise(x, "block1_depthwise"), 64, "block1_project", activation=None)
    x = layers.Add(name="block1_add")([x, y])
    x = _conv(_depthwise(x, "block2_depthwise", stride=2), 96, "block2_project", activation=None)
    x = _conv(_depthwise(x, "block3_depthwise", stride=2), 160, "block3_project", activation=None)
    y = _conv(_depthwise(x, "block4_depthwise"), 320, "block4_expand")
    y = _conv(y, 160, "block4_project", activation=None)
    x = layers.Add(name="block4_add")([x, y])
    return _classify(image, _conv(x, 320, "head"), "fashion_mobilenet")


def resnet8() -> Any:
    """ResNet8 of MLPerf Tiny (Banbury 2021; He 2016): three residual stages of 16, 32 and 64 channels, ReLU."""
    from keras import layers

    image = _image()
    x = _conv(image, 16, "stem", kernel=3, activation="relu")
    for stage, filters in enumerate((16, 32, 64), 1):
        stride = 1 if stage == 1 else 2
        y = _conv(x, filters, f"stage{stage}_a", kernel=3, stride=stride, activation="relu")
        y = _conv(y, filters, f"stage{stage}_b", kernel=3, activation=None)
        if stage > 1:
            x = _conv(x, filters, f"stage{stage}_shortcut", stride=stride, activation=None)
        x = layers.Add(name=f"stage{stage}_add")([x, y])
        x = layers.ReLU(name=f"stage{stage}_relu")(x)
    return _classify(image, x, "fashion_resnet8")


def ds_cnn() -> Any:
    """DS-CNN, the keyword spotter of MLPerf Tiny (Zhang 2017): a plain chain of depthwise separable convolutions."""
    image = _image()
    x = _conv(image, 64, "stem", kernel=3, stride=2, activation="relu")
    for block in range(1, 5):
        x = _depthwise(x, f"block{block}_depthwise", activation="relu")
        x = _conv(x, 64, f"block{block}_pointwise", activation="relu")
    return _classify(image, x, "fashion_ds_cnn")


def mobilenet_v2() -> Any:
    """Inverted residuals with linear bottlenecks and thin layers (Sandler 2018), whose depthwise ranges differ widely
    between channels: the hard case of post-training quantization."""
    from keras import layers

    image = _image()
    x = _conv(image, 16, "stem", kernel=3, stride=2)
    channels = 16
    for block, (filters, stride) in enumerate(((16, 1), (24, 2), (24, 1), (32, 2), (32, 1)), 1):
        y = _conv(x, 6 * channels, f"block{block}_expand")
        y = _depthwise(y, f"block{block}_depthwise", stride=stride)
        y = _conv(y, filters, f"block{block}_project", activation=None)
        x = layers.Add(name=f"block{block}_add")([x, y]) if stride == 1 and filters == channels else y
        channels = filters
    return _classify(image, _conv(x, 128, "head"), "fashion_mobilenet_v2")


def mobilenet_v3() -> Any:
    """Squeeze-and-excite, hard swish and 5x5 depthwise kernels (Howard 2019)."""
    from keras import layers

    def excite(x: Any, name: str) -> Any:
        channels = x.shape[-1]
        y = layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_squeeze")(x)
        y = layers.Conv2D(channels // 4, 1, activation="relu", name=f"{name}_reduce")(y)
        y = layers.Conv2D(channels, 1, name=f"{name}_expand")(y)
        y = layers.Activation("hard_sigmoid", name=f"{name}_gate")(y)
        return layers.Multiply(name=f"{name}_scale")([x, y])

    image = _image()
    x = _conv(image, 16, "stem", kernel=3, stride=2, activation="hard_swish")
    channels = 16
    plan = ((64, 24, 3, 2, "relu", False), (72, 24, 3, 1, "relu", True), (96, 40, 5, 2, "hard_swish", True))
    for block, (wide, filters, kernel, stride, activation, gated) in enumerate(plan, 1):
        y = _conv(x, wide, f"block{block}_expand", activation=activation)
        y = _depthwise(y, f"block{block}_depthwise", kernel, stride, activation)
        if gated:
            y = excite(y, f"block{block}_se")
        y = _conv(y, filters, f"block{block}_project", activation=None)
        x = layers.Add(name=f"block{block}_add")([x, y]) if stride == 1 and filters == channels else y
        channels = filters
    return _classify(image, _conv(x, 128, "head", activation="hard_swish"), "fashion_mobilenet_v3")


NETS: Mapping[str, Callable[[], Any]] = {
    "mobilenet": mobilenet,
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet_v2": mobilenet_v2,
    "mobilenet_v3": mobilenet_v3,
}
