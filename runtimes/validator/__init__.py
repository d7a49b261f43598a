"""Proof of an artifact: probes, parity with the float64 truth, speed against eager, gates."""
