"""Names of the files and folders in a build's output folder."""

from __future__ import annotations

BUILD_FILE = "build.json"
"""Verdicts of a build; every table and exit code is computed from it."""
BUILD_SIGNATURE = "build.sig"
"""Signature over build.json and the manifests of a build's artifacts."""
STEPS_FILE = "steps.json"
"""Dependencies of each step of a build; `--explain` compares with them."""
LOGS = "logs"
"""Folder with the log of each step."""
CHANGED = "models"
"""Folder with the models that passes changed, each with its own reference."""
REFERENCE_FILE = "reference.safetensors"
"""Probes, the eager model's answers and the float64 truth."""
STATE_FILE = "state.pt"
"""The state_dict of a model, beside its reference."""
RESERVED = (LOGS, CHANGED, BUILD_FILE, BUILD_SIGNATURE, STEPS_FILE, REFERENCE_FILE)
"""Names that no artifact may have."""
