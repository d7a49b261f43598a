"""Build time: a recipe becomes artifacts."""
