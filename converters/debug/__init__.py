"""Find the layer at which an artifact diverges from the eager model."""
