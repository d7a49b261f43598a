"""Outputs made comparable: order within ties, and parts of a tensor."""
