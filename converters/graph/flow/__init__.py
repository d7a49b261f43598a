"""Looks at a graph along its dataflow: which tensors reach an input, whatever moves them there."""
