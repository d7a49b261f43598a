"""YAML in the documents: recipes follow the schema, and whole ones pass the checks of `burnish convert`."""

from __future__ import annotations

import shutil
from pathlib import Path

import jsonschema
import pytest
import yaml

from converters.plan.schema import recipe_schema
from tools.pages import ROOT, Block, blocks, pages

SNIPPETS = [block for page in pages() for block in blocks(page) if block.language == "yaml"]
RECIPES = [block for block in SNIPPETS if block.remark is None or block.remark[0] != "not a recipe"]


@pytest.mark.parametrize("block", RECIPES, ids=lambda block: block.place)
def test_a_recipe_follows_the_schema(block: Block) -> None:
    validator = jsonschema.Draft202012Validator(recipe_schema())
    assert [
        error.message for error in validator.iter_errors(yaml.safe_load(block.text))
    ] == misspelt(block)


def misspelt(block: Block) -> list[str]:
    """What the schema says of the one recipe whose mistakes the documents explain."""
    if block.title != "detector.yaml":
        return []
    return ["Additional properties are not allowed ('artifact' was unexpected)"]


def test_the_recipe_of_the_readme_is_the_one_in_configs() -> None:
    (block,) = [block for block in RECIPES if block.page == ROOT / "README.md"]
    shown = yaml.safe_load(block.text)
    shipped = yaml.safe_load((ROOT / "configs" / "mlp.yaml").read_text(encoding="utf-8"))
    assert shown == {key: shipped[key] for key in shown}
    assert set(shipped) - set(shown) == {"classes"}, "what only names the classes is left out"


def test_a_snippet_that_is_no_recipe_says_so() -> None:
    others = [block for block in SNIPPETS if block not in RECIPES]
    assert all("steps" in yaml.safe_load(block.text) for block in others), (
        "all of them are CI workflows"
    )


def test_the_snippets_of_a_guide_are_passes_that_may_be_combined(tmp_path: Path) -> None:
    """The recipes that start the guides of quantization and pruning, completed to whole ones, are accepted."""
    from converters.plan.load import load_recipe

    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    for name in ("quantization.md", "pruning.md"):
        block = next(block for block in RECIPES if block.page.name == name)
        recipe = tmp_path / f"{block.page.stem}.yaml"
        recipe.write_text(f"extends: resnet18\n{block.text}", encoding="utf-8")
        assert len(load_recipe(recipe, folders=[tmp_path / "configs"]).artifacts) >= 4
