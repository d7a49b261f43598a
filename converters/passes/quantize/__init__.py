"""Quantization: calibrated once into a QDQ graph, which each engine's lowering rewrites with the same numbers."""
