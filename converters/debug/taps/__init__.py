"""Read inner values of an artifact, one module per engine."""
