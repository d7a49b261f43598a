"""What a recipe may say: its schema, its defaults, its errors."""
