"""The command line: `app` with its verbs, and the console script `main`."""

from burnish.cli.main import main
from burnish.cli.verb import app

__all__ = ["app", "main"]
