"""The recipe format: its schema, its defaults, its errors."""
