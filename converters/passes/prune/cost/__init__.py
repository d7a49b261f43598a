"""The cost of a layer: operations, parameters, measured latency."""
