"""Recovery: distillation from the eager original into a pruned or quantized model."""
