"""What proves an artifact: probes, parity against the float64 truth, speed against eager, gates."""
