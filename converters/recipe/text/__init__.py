"""Text of recipes: how far it is read."""
