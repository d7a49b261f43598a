"""Findings from running an eager model: its states, its sequences, what rounding decides, what it refuses."""
