"""Quantized numbers: parameters, rounding, packing and TFLite's integer arithmetic, on numpy alone."""
