"""Mutants: right artifacts with one seeded defect each, an oracle, and the validator's verdict."""
