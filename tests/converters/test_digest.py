"""Keys of what is kept between builds: any rule that plays a part gives another key when it changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from converters.digest import ROOT, Key, source_digest, source_modules

CALIBRATION = "converters.passes.quantize.calibrate"
CHANGE = "converters.passes.change"
LATENCY = "converters.passes.prune.cost.latency"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the packages' sources; a test that changes a file puts it back."""
    folder = tmp_path_factory.mktemp("sources")
    for package in ("converters", "runtimes"):
        shutil.copytree(
            ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def test_the_same_sources_in_another_folder_are_the_same(sources: Path) -> None:
    assert source_digest(CALIBRATION, sources) == source_digest(CALIBRATION)


@pytest.mark.parametrize(
    ("module", "file"),
    [
        (CALIBRATION, "converters/passes/quantize/static.py"),
        (CALIBRATION, "converters/passes/quantize/channels.py"),
        (CALIBRATION, "converters/graph/qdq.py"),
        (CALIBRATION, "converters/graph/taps.py"),
        (CALIBRATION, "converters/graph/names.py"),
        (CALIBRATION, "converters/data/calibration.py"),
        (CALIBRATION, "converters/data/samples.py"),
        (CALIBRATION, "converters/recipe/quantize.py"),
        (CALIBRATION, "runtimes/preprocess/image.py"),
        (CHANGE, "converters/passes/prune/structured.py"),
        (CHANGE, "converters/passes/prune/cost/cost.py"),
        (CHANGE, "converters/passes/recover/train.py"),
        (CHANGE, "converters/models/operations.py"),
        (CHANGE, "converters/models/batch_norm.py"),
        (CHANGE, "converters/models/attention.py"),
        (CHANGE, "converters/models/structure.py"),
        (CHANGE, "converters/models/examples.py"),
        (CHANGE, "converters/models/call.py"),
        (CHANGE, "converters/sources/load.py"),
        (LATENCY, "converters/passes/prune/cost/single.py"),
    ],
)
def test_a_rule_that_changed_gives_another_key(sources: Path, module: str, file: str) -> None:
    before, path = source_digest(module, sources), sources / file
    original = path.read_bytes()
    try:
        path.write_bytes(original + b"# another rule\n")
        assert source_digest(module, sources) != before
    finally:
        path.write_bytes(original)


def test_a_module_that_plays_no_part_changes_no_key() -> None:
    assert "converters.build.build" not in source_modules(CALIBRATION)
    assert "converters.passes.recover.train" not in source_modules(CALIBRATION)


def test_parts_are_framed() -> None:
    def key(*parts: tuple[str, str]) -> str:
        digest = Key()
        for name, part in parts:
            digest.add(name, part)
        return digest.hex()

    assert key(("a", "bc")) != key(("a", "b"), ("", "c"))
    assert key(("a", "b")) == key(("a", "b"))
