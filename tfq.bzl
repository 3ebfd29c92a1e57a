"""Quantized models as build artifacts, and gates on them as test targets.

Both call the `tfq` command of this checkout's `.venv` (`make setup` makes it), or else the `tfq` on PATH. They are not sandboxed:
TensorFlow and a device are outside of what Bazel tracks.
"""

def tflite_quantized_model(name, model, recipe, calibration = None, train = None, data = None, seed = 0, **kwargs):
    """Quantizes `model` by `recipe`; the output is `<name>.tflite`.

    Args:
      name: of the target.
      model: label of a model file that `tfq quantize` reads.
      recipe: name of a built-in recipe, or label of a recipe file (with a ':' or '/').
      calibration: samples to calibrate with: label of an .npz file, or name of a built-in data set.
      train: labelled data to train on, for recipes that do; as `calibration`.
      data: labelled data to measure on; as `calibration`.
      seed: of everything random.
      **kwargs: passed to the genrule.
    """
    srcs = [model]
    flags = ["--seed=%d" % seed]
    for flag, value in [("recipe", recipe), ("calibration", calibration), ("train", train), ("data", data)]:
        if not value:
            continue
        if _is_label(value):
            srcs.append(value)
            value = "$(location %s)" % value
        flags.append("--%s=%s" % (flag, value))
    tfq = str(Label("//:tfq"))
    native.genrule(
        name = name,
        srcs = srcs,
        outs = [name + ".tflite"],
        cmd = "$(location %s) quantize $(location %s) %s --output=$@" % (tfq, model, " ".join(flags)),
        local = True,
        tools = [tfq],
        **kwargs
    )

def tflite_benchmark_test(
        name,
        model,
        device = "host",
        delegate = None,
        max_latency_ms = None,
        data = None,
        min_accuracy = None,
        flags = [],
        tags = [],
        **kwargs):
    """A test that fails when `model` is slower or less accurate than it may be.

    Args:
      name: of the target.
      model: label of a .tflite file.
      device: host, emulator, or an adb serial number.
      delegate: as `tfq benchmark --delegate`.
      max_latency_ms: the median latency may not be above; a string, such as "2.5".
      data: name of a built-in data set, or label of an .npz file, for `min_accuracy`.
      min_accuracy: the accuracy on `data` may not be below; a string from "0" to "1".
      flags: more flags of `tfq benchmark`, such as "--num_runs=200".
      tags: of the test; "exclusive" and "local" are added, as other work would disturb the measurement.
      **kwargs: passed to the test.
    """
    if not max_latency_ms and not min_accuracy:
        fail("%s: give max_latency_ms or min_accuracy, or nothing is tested" % name)
    if min_accuracy and not data:
        fail("%s: min_accuracy needs data" % name)
    tfq = str(Label("//:tfq"))
    inputs = [model, tfq]
    args = ["--tfq=$(rootpath %s)" % tfq, "--model=$(rootpath %s)" % model, "--device=" + device]
    if data and _is_label(data):
        inputs.append(data)
        data = "$(rootpath %s)" % data
    for flag, value in [
        ("delegate", delegate),
        ("max_latency_ms", max_latency_ms),
        ("data", data),
        ("min_accuracy", min_accuracy),
    ]:
        if value:
            args.append("--%s=%s" % (flag, value))
    native.sh_test(
        name = name,
        srcs = [str(Label("//tools:benchmark_gate.py"))],
        args = args + (["--"] + flags if flags else []),
        data = inputs,
        tags = tags + ["exclusive", "local"],
        **kwargs
    )

def _is_label(value):
    return "//" in value or value.startswith(":") or value.endswith((".npz", ".yaml", ".yml", ".json"))
