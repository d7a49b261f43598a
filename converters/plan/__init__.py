"""A recipe becomes a checked plan, and the plan a graph of steps."""
