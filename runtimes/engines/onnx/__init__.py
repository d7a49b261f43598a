"""ONNX Runtime, and the checks before it parses a graph."""
