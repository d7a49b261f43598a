"""Run a plan: steps, artifacts in their places, verdicts, build.json."""
