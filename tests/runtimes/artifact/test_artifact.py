"""What is on disk is what the manifest says, before any engine sees it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.artifact.artifact import MANIFEST, SCHEMA, Artifact, publish, replace_folder, sha256
from runtimes.errors import ArtifactError, UsageError
from runtimes.session import load

Copy = Callable[[str], Artifact]


def rewrite(artifact: Artifact, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest on disk as a text, past every check."""
    path = artifact.path / MANIFEST
    manifest = json.loads(path.read_text(encoding="utf-8"))
    change(manifest)
    path.write_text(json.dumps(manifest), encoding="utf-8")


def refuse(artifact: Artifact, words: str) -> None:
    """`load` refuses the artifact with these words."""
    with pytest.raises(ArtifactError, match=words):
        load(artifact.path)


def test_every_artifact_of_a_build_verifies(small_build: Path) -> None:
    for manifest in small_build.glob(f"*/{MANIFEST}"):
        artifact = Artifact.open(manifest.parent)
        artifact.verify()
        assert artifact.size_bytes == artifact.entry.stat().st_size


def test_a_missing_file_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    artifact.entry.unlink()
    refuse(artifact, r"model\.onnx is missing")


def test_one_changed_bit_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    content = bytearray(artifact.entry.read_bytes())
    content[-1] ^= 1
    artifact.entry.write_bytes(content)
    refuse(artifact, r"model\.onnx was changed after it was made")


def test_a_truncated_file_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("torchscript")
    artifact.entry.write_bytes(artifact.entry.read_bytes()[:-1])
    refuse(artifact, r"model\.pt was changed after it was made")


def test_an_extra_file_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    (artifact.path / "deeper").mkdir()
    (artifact.path / "deeper" / "weights.bin").write_bytes(b"?")
    refuse(artifact, r"deeper/weights\.bin is not in the manifest")


def test_all_that_is_wrong_is_said_at_once_with_what_to_do(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    artifact.entry.rename(artifact.path / "other.onnx")
    refuse(
        artifact,
        r"model\.onnx is missing; other\.onnx is not in the manifest\. Build it again or restore",
    )


def test_a_link_to_the_right_content_is_refused(artifact_copy: Copy, tmp_path: Path) -> None:
    artifact = artifact_copy("onnx")
    artifact.entry.rename(tmp_path / "elsewhere.onnx")
    artifact.entry.symlink_to(tmp_path / "elsewhere.onnx")
    refuse(artifact, r"model\.onnx was changed after it was made")


def test_a_linked_folder_is_refused_and_not_followed(artifact_copy: Copy, tmp_path: Path) -> None:
    artifact = artifact_copy("onnx")
    (artifact.path / "more").symlink_to(tmp_path, target_is_directory=True)
    refuse(artifact, "more is not in the manifest")


@pytest.mark.parametrize(
    "name", ["../model.onnx", "a/../../model.onnx", "/etc/passwd", "..\\model.onnx"]
)
def test_a_manifest_that_names_a_file_outside_is_refused(artifact_copy: Copy, name: str) -> None:
    artifact = artifact_copy("onnx")
    outside = {"sha256": sha256(artifact.entry), "size": artifact.size_bytes}
    rewrite(artifact, lambda manifest: manifest["files"].update({name: outside}))
    refuse(artifact, "names a file outside the artifact")


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd"])
def test_an_entry_outside_is_refused(artifact_copy: Copy, name: str) -> None:
    artifact = artifact_copy("onnx")
    rewrite(artifact, lambda manifest: manifest.update(entry=name))
    refuse(artifact, "names a file outside the artifact")


def test_an_entry_that_is_not_listed_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    rewrite(artifact, lambda manifest: manifest.update(entry="other.onnx"))
    refuse(artifact, r"opens 'other\.onnx', which it does not list")


def test_a_newer_schema_is_refused_even_when_all_else_is_strange(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    (artifact.path / MANIFEST).write_text(
        json.dumps({"schema_version": SCHEMA + 1, "burnish": "9.0", "new": 1})
    )
    refuse(
        artifact,
        rf"built by a newer Burnish \(9\.0\).*version {SCHEMA + 1}, "
        rf"this Burnish reads up to {SCHEMA}",
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"text"', "[" * 100_000, '{"schema_version": 1}']
)
def test_damaged_json_is_refused(artifact_copy: Copy, text: str) -> None:
    artifact = artifact_copy("onnx")
    (artifact.path / MANIFEST).write_text(text)
    refuse(artifact, r"manifest\.json is damaged")


def test_an_unknown_key_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    rewrite(artifact, lambda manifest: manifest.update(shcema_version=1))
    refuse(artifact, "(?s)damaged.*shcema_version")


def test_an_artifact_for_no_device_is_refused(artifact_copy: Copy) -> None:
    artifact = artifact_copy("onnx")
    rewrite(artifact, lambda manifest: manifest.update(devices=[]))
    refuse(artifact, "(?s)damaged.*devices")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.data())
def test_a_manifest_cut_anywhere_is_refused(
    tmp_path: Path, small_build: Path, data: st.DataObject
) -> None:
    text = (small_build / "onnx" / MANIFEST).read_text(encoding="utf-8").rstrip()
    (tmp_path / MANIFEST).write_text(
        text[: data.draw(st.integers(0, len(text) - 1))], encoding="utf-8"
    )
    with pytest.raises(ArtifactError, match="damaged"):
        Artifact.open(tmp_path)


def test_a_folder_without_a_manifest_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is not an artifact: no readable manifest\.json$"):
        load(tmp_path)


def test_a_build_is_not_an_artifact_and_the_message_says_so(small_build: Path) -> None:
    with pytest.raises(UsageError, match="it is a build: name one of the artifacts in it"):
        load(small_build)


def test_a_binary_manifest_is_a_wrong_request(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not an artifact"):
        load(tmp_path)


def test_publish_lists_every_file_and_replaces_the_older_artifact(
    artifact_copy: Copy, tmp_path: Path
) -> None:
    old = artifact_copy("onnx")
    scratch = tmp_path / "work"
    (scratch / "sub").mkdir(parents=True)
    (scratch / "model.onnx").write_bytes(b"new")
    (scratch / "sub" / "extra").write_bytes(b"")
    published = publish(scratch, old.path, old.manifest)
    assert Artifact.open(old.path) == published
    assert sorted(published.manifest.files) == ["model.onnx", "sub/extra"]
    assert published.size_bytes == 3
    published.verify()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["onnx"]


def test_replacing_a_folder_leaves_nothing_of_the_old_one(tmp_path: Path) -> None:
    source, destination = tmp_path / "new", tmp_path / "there"
    for folder in (source, destination):
        folder.mkdir()
        (folder / folder.name).touch()
    replace_folder(source, destination)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == [
        "there",
        "there/new",
    ]
