"""Settings that all tests share."""

from __future__ import annotations

import os
import sys

from hypothesis import HealthCheck, settings

# An editable install of scikit-build-core hooks imports ahead of sys.path; tests are of the checkout that they lie in.
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__module__.startswith("_editable_skbc")]

# Read by TensorFlow's C++ side when it is loaded, so it must be set before any test imports it.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# A busy machine must not fail a test, and a failure must come again on the next run.
settings.register_profile(
    "tfq", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("tfq")
