"""What a step looks at while it runs."""
