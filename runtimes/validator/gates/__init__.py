"""The gates, and those that need a file of their own."""
