"""Foreign artifacts: nothing outside the folder is read, nothing waits or bursts, and no program runs unasked."""

from __future__ import annotations

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import Result

from runtimes.artifact.artifact import MANIFEST
from runtimes.files.documents import MOST_BYTES
from runtimes.session import load
from tests.security.forgery import ESCAPES, VERBS, arguments, build_of, graph, rewrite

Foreign = Callable[..., Path]
Refused = Callable[..., str]
Invoke = Callable[..., Result]


@pytest.fixture
def harmless(foreign: Foreign) -> Path:
    """A foreign ONNX artifact that is in order."""
    return foreign("onnx", {"model.onnx": graph().SerializeToString()}, "model.onnx")


# Names and files


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../model.onnx", "outside the artifact"),
        ("/etc/passwd", "outside the artifact"),
        ("C:/model.onnx", "outside the artifact"),
        ("..\\model.onnx", "outside the artifact"),
        ("a\0b", "control characters"),
        ("a\nb", "control characters"),
        (ESCAPES, "control characters"),
        ("a//b", "not a plain path"),
        ("./a", "not a plain path"),
        ("", "not a plain path"),
        ("a/" * 100 + "b", "too long"),
        ("a" * 300, "too long"),
        ("MODEL.ONNX", "one file if case does not count"),
    ],
)
def test_names_that_no_file_should_have(
    harmless: Path, refused: Refused, name: str, words: str
) -> None:
    rewrite(
        harmless, lambda manifest: manifest["files"].update({name: manifest["files"]["model.onnx"]})
    )
    assert words in refused(load, harmless)


def test_more_files_than_any_artifact_has(harmless: Path, refused: Refused) -> None:
    entry = {"sha256": "0" * 64, "size": 1}
    rewrite(
        harmless,
        lambda manifest: manifest["files"].update({f"f{index}": entry for index in range(10_001)}),
    )
    assert "damaged" in refused(load, harmless)


@pytest.mark.parametrize("size", [-1, 1 << 63, "x", 1.5])
def test_sizes_that_no_file_has(harmless: Path, refused: Refused, size: object) -> None:
    rewrite(harmless, lambda manifest: manifest["files"]["model.onnx"].update(size=size))
    assert "damaged" in refused(load, harmless)


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST])
def test_a_pipe_is_not_waited_for(harmless: Path, refused: Refused, name: str) -> None:
    (harmless / name).unlink()
    os.mkfifo(harmless / name)
    rewrite_size = {"sha256": sha256(b"").hexdigest(), "size": 0}
    if name != MANIFEST:
        rewrite(harmless, lambda manifest: manifest["files"].update({name: rewrite_size}))
    assert (
        "changed after it was made" in (told := refused(load, harmless))
        or "not an artifact" in told
    )


@pytest.mark.parametrize("name", ["model.onnx", MANIFEST])
def test_links_are_not_followed(
    harmless: Path, refused: Refused, tmp_path: Path, name: str
) -> None:
    (harmless / name).rename(tmp_path / "elsewhere")
    (harmless / name).symlink_to(tmp_path / "elsewhere")
    assert "is a link" in (told := refused(load, harmless)) or "was changed" in told


@pytest.mark.parametrize(
    "text",
    [
        '{"a":' * 1000 + "1" + "}" * 1000,
        "[" * 100 + "]" * 100,
        '{"schema_version": 1, "schema_version": 2}',
        '{"burnish": NaN}',
        '{"burnish": 1e999}',
        '{"burnish": ' + "9" * 10_000 + "}",
        " " * (MOST_BYTES + 1),
    ],
    ids=["deep", "brackets", "twice", "nan", "infinite", "long number", "large"],
)
def test_json_that_is_a_trap(harmless: Path, refused: Refused, text: str) -> None:
    (harmless / MANIFEST).write_text(text, encoding="utf-8")
    assert "manifest.json is damaged" in refused(load, harmless)


@pytest.mark.parametrize(
    "build",
    [
        {"parameters": "many"},
        {"operators": ["Conv"]},
        {"compute_layers": {"fp32": "all"}},
        {"notes": "one"},
        {"unfused": [{"operator": 1}]},
        {"versions": {"torch": 2}},
        {"isa": 5},
        {"flavor": ["rtx"]},
        {"changed": "../../elsewhere"},
        {"changed": "models/../../elsewhere"},
        {"changed": "/etc"},
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", [("inspect",), ("inspect", "--json")], ids=str)
def test_facts_of_another_type_are_damage_and_no_fault(
    harmless: Path, invoke: Invoke, build: dict[str, Any], verb: tuple[str, ...]
) -> None:
    rewrite(harmless, lambda manifest: manifest.update(build=build))
    result = invoke(verb[0], harmless, *verb[1:])
    assert result.exit_code == 3
    assert "is damaged" in result.stderr


@pytest.mark.parametrize("name", ["../elsewhere", "/etc", "..", ".", "a/b", "a\\b", "a\0b"])
def test_a_build_names_its_own_folders_only(invoke: Invoke, tmp_path: Path, name: str) -> None:
    result = invoke("validate", build_of(tmp_path, name), "--no-speed")
    assert result.exit_code == 3
    assert "which is no folder of the build" in " ".join(result.stderr.split())


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": NaN}', '{"machine": {"cpu": 1}}', "{}"])
def test_a_build_json_that_is_a_trap(invoke: Invoke, tmp_path: Path, text: str) -> None:
    (tmp_path / "build.json").write_text(text, encoding="utf-8")
    for verb in ("compare", "validate"):
        result = invoke(verb, tmp_path)
        assert result.exit_code == 2
        assert "as a build.json of this Burnish version" in result.stderr


# Every verb verifies before an engine sees anything


@pytest.mark.parametrize(
    ("verb", "damage"),
    [*((verb, "changed") for verb in VERBS), (VERBS[0], "missing"), (VERBS[0], "added")],
    ids=lambda one: one if isinstance(one, str) else one[0],
)
def test_every_verb_verifies_first(
    foreign: Foreign, invoke: Invoke, verb: tuple[str, ...], damage: str
) -> None:
    path = foreign(
        "onnx", {"model.onnx": b"\xff" * 64}, "model.onnx"
    )  # parsed, this would be another error
    if damage == "changed":
        (path / "model.onnx").write_bytes(b"\xfe" * 64)
    elif damage == "missing":
        (path / "model.onnx").unlink()
    else:
        (path / "libevil.so").touch()
    result = invoke(*arguments(verb, path))
    assert result.exit_code == 3
    assert "Build it again or restore its files" in " ".join(result.output.split())
