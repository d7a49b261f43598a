"""Quantized operators that no kernel of an engine fuses."""
