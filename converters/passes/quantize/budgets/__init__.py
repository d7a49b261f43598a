"""Accuracy budgets: how much a quantized graph loses, and which layers stay float until it holds."""
