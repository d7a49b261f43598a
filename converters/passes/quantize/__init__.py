"""Quantization: calibrated once into a QDQ graph, which each engine's lowering rewrites."""
