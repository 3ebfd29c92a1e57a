"""Runs .tflite models on this machine, on phones and on an emulated arm64 device, and measures them.

Public calls: `benchmark`, `run_model`, `devices`, `open_device`.
"""

from android_bench.api import benchmark, devices, open_device, run_model

__all__ = ["benchmark", "devices", "open_device", "run_model"]
