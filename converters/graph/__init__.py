"""Work on ONNX graphs: names, inner values, casts, QDQ pairs, lowering for an engine."""
