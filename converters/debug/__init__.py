"""Where an artifact goes wrong: its values against the eager model's, layer by layer."""
