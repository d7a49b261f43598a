"""Options that the scripts of this folder share."""

from __future__ import annotations

import argparse
from pathlib import Path


def option_parser(document: str | None) -> argparse.ArgumentParser:
    """Create a parser that describes a script by its docstring."""
    return argparse.ArgumentParser(
        description=document or "", formatter_class=argparse.RawDescriptionHelpFormatter
    )


def add_data(parser: argparse.ArgumentParser, content: str) -> None:
    """Add `--data FOLDER`: `content` is what lies there. No script looks for data anywhere else."""
    parser.add_argument("--data", type=Path, metavar="FOLDER", help=content)


def required(parser: argparse.ArgumentParser, option: str, path: Path | None, content: str) -> Path:
    """Return an option's path, absolute. Ends with exit status 2 if it was not given or does not exist."""
    if path is None:
        parser.error(
            f"this measures on data that the repository does not have: give {content} with {option}"
        )
    if not path.exists():
        parser.error(f"{option}: there is no {path}; it has to be {content}")
    return path.resolve()
