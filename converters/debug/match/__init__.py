"""Match the values of an artifact with the layers of the eager model."""
