"""TensorRT engines: the classic package, TensorRT for RTX, torch-tensorrt."""
