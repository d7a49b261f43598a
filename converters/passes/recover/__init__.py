"""Recovery: the eager original teaches what a pruned or quantized model has lost."""
