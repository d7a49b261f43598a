"""Write the generated pages of docs/reference/: recipes, the command line and the Python API.

python -m tools.reference
"""

from __future__ import annotations

from collections.abc import Callable

from tools.pages import REFERENCE
from tools.reference_cli import cli_page
from tools.reference_python import python_page
from tools.reference_recipe import recipe_page

PAGES: dict[str, Callable[[], str]] = {
    "recipe.md": recipe_page,
    "cli.md": cli_page,
    "python.md": python_page,
}


def write_pages() -> None:
    """Write every generated page."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    write_pages()
