"""ONNX: export, operator counts, limits of ONNX Runtime, optimization ahead of time."""
