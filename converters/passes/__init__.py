"""Model to model and graph to graph: one pass per file."""
