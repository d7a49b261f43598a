"""Links of the documents: files and anchors exist. Links to other sites are not fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.pages import DOCS, ROOT, anchors, links, pages, slugify


def broken(page: Path) -> list[str]:
    """The relative links of a page that lead nowhere."""
    found = []
    for line, target in links(page):
        if "://" in target or target.startswith("mailto:"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        if not file.exists() or (anchor and anchor not in anchors(file)):
            found.append(f"{page.relative_to(ROOT)}:{line}: {target}")
    return found


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert broken(page) == []


def test_a_broken_link_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.docs.test_links.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(
        "# A title\n[a](page.md#a-title) [b](page.md#none) [c](none.md)\n```\n[d](no)\n```\n"
    )
    assert broken(page) == ["page.md:2: page.md#none", "page.md:2: none.md"]


def test_the_site_links_no_file_outside_of_docs() -> None:
    """The site's generator could not follow it."""
    outside = [
        f"{page.relative_to(ROOT)}:{line}: {target}"
        for page in DOCS.rglob("*.md")
        for line, target in links(page)
        if "://" not in target and not (page.parent / target).resolve().is_relative_to(DOCS)
    ]
    assert outside == []


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    missing = [
        str(page.relative_to(DOCS))
        for page in DOCS.rglob("*.md")
        if f": {page.relative_to(DOCS).as_posix()}\n" not in navigation
    ]
    assert missing == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


def test_the_architecture_is_one_page() -> None:
    assert len((DOCS / "architecture.md").read_text(encoding="utf-8").splitlines()) < 150


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("My artifact failed: what now", "my-artifact-failed-what-now"),
        ("`burnish convert`", "burnish-convert"),
    ],
)
def test_anchors_are_spelled_as_code_hosts_spell_them(heading: str, anchor: str) -> None:
    assert slugify(heading) == anchor
