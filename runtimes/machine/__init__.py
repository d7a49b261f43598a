"""This machine: CPU, devices, instruction sets."""
