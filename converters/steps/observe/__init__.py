"""Observation of a step: the files, variables and modules that it looks at."""
