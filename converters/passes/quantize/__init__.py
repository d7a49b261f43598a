"""Quantization: one calibration makes one QDQ graph, a lowering for each engine rewrites it without changing its numbers."""
