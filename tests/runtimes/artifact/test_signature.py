"""An artifact not signed by the trusted key is not opened: no engine and no parser sees it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtimes.artifact import artifact as artifact_module
from runtimes.artifact import keys
from runtimes.artifact.artifact import MANIFEST, Artifact, publish
from runtimes.artifact.keys import create_keys, fingerprint, read_private, read_public
from runtimes.artifact.signature import (
    ANYONE,
    SIGNATURE,
    VARIABLE,
    Signature,
    SignatureError,
    Trust,
    sign,
    trusted,
)
from runtimes.errors import ArtifactError, Unavailable, UsageError
from runtimes.session import load
from runtimes.validator.reference import Reference
from runtimes.validator.validate import Target, validate

Copy = Callable[[str], Artifact]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The files of a private and a public key."""
    private = tmp_path_factory.mktemp("keys") / "ci.key"
    return private, create_keys(private)


@pytest.fixture
def signed(artifact_copy: Copy, pair: tuple[Path, Path]) -> Artifact:
    """A copy of an ONNX artifact, signed."""
    artifact = artifact_copy("onnx")
    sign_again(artifact, pair[0])
    return artifact


def sign_again(artifact: Artifact, private: Path) -> None:
    sign(artifact.path, (artifact.path / MANIFEST).read_bytes(), read_private(private))


def refuse(artifact: Artifact, public: Path, words: str) -> None:
    """Opening and loading are refused with these words."""
    for open_artifact in (Artifact.open, load):
        with pytest.raises(SignatureError, match=words):
            open_artifact(artifact.path, key=public)


def test_a_signed_artifact_is_opened_by_its_key_and_without_one(
    signed: Artifact, pair: tuple[Path, Path]
) -> None:
    Artifact.open(signed.path, pair[1]).verify()
    with load(signed.path, key=pair[1]), load(signed.path):
        pass


def test_what_is_not_signed_is_refused(artifact_copy: Copy, pair: tuple[Path, Path]) -> None:
    refuse(
        artifact_copy("onnx"),
        pair[1],
        r"onnx is not signed: it has no manifest\.sig; `burnish sign` writes it",
    )


def test_another_keys_signature_is_refused(
    signed: Artifact, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    public = create_keys(tmp_path / "other.key")
    actual, required = fingerprint(read_public(pair[1])), fingerprint(read_public(public))
    words = f"signed by another key: {actual}, not the trusted {required}"
    refuse(signed, public, words.replace("+", r"\+"))


def test_a_signature_that_claims_the_trusted_key_is_checked(
    signed: Artifact, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    create_keys(tmp_path / "other.key")
    sign_again(signed, tmp_path / "other.key")
    Signature(read_public(pair[1]), Signature.read(signed.path).value).write(signed.path)
    refuse(signed, pair[1], "was changed after it was signed")


def test_one_changed_word_of_the_manifest_is_refused(
    signed: Artifact, pair: tuple[Path, Path]
) -> None:
    path = signed.path / MANIFEST
    path.write_text(
        path.read_text(encoding="utf-8").replace('"fp32"', '"fp16"', 1), encoding="utf-8"
    )
    refuse(
        signed,
        pair[1],
        r"was changed after it was signed: its manifest is not the one that SHA256:\S+ has signed",
    )


def test_a_manifest_of_the_same_meaning_but_other_bytes_is_refused(
    signed: Artifact, pair: tuple[Path, Path]
) -> None:
    path = signed.path / MANIFEST
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8"))), encoding="utf-8")
    refuse(signed, pair[1], "was changed after it was signed")


def test_a_changed_file_is_refused_though_the_manifest_is_signed(
    signed: Artifact, pair: tuple[Path, Path]
) -> None:
    signed.entry.write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"model\.onnx was changed after it was made"):
        load(signed.path, key=pair[1])


@pytest.mark.parametrize(
    "text", ["", "ed25519", "rsa AAAA AAAA", "ed25519 AAAA AAAA", "ed25519 ? ?", "\xe9", "[" * 5000]
)
def test_a_damaged_signature_is_refused(
    signed: Artifact, pair: tuple[Path, Path], text: str
) -> None:
    (signed.path / SIGNATURE).write_text(text, encoding="utf-8")
    refuse(signed, pair[1], r"manifest\.sig is damaged, so it proves nothing")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_bit_of_manifest_or_signature_is_refused(
    small_build: Path, pair: tuple[Path, Path], tmp_path: Path, data: st.DataObject
) -> None:
    artifact = Artifact.open(
        shutil.copytree(small_build / "onnx", tmp_path / "onnx", dirs_exist_ok=True)
    )
    sign_again(artifact, pair[0])
    path = artifact.path / data.draw(st.sampled_from([MANIFEST, SIGNATURE]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises((SignatureError, UsageError)):  # UsageError: it is no text any more
        Artifact.open(artifact.path, pair[1])


def test_nothing_is_parsed_before_the_signature_is_right(
    signed: Artifact, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[str] = []
    monkeypatch.setattr(artifact_module, "_parse", lambda path, text: parsed.append(text))
    (signed.path / MANIFEST).write_bytes(b"{}")
    refuse(signed, pair[1], "was changed after it was signed")
    assert not parsed


def test_only_the_signature_itself_may_lie_beside_the_manifest(signed: Artifact) -> None:
    (signed.path / "deeper").mkdir()
    for stray in ("manifest.sig.old", "deeper/manifest.sig"):
        (signed.path / stray).write_bytes(b"")
        with pytest.raises(ArtifactError, match=f"{stray} is not in the manifest"):
            signed.verify()
        (signed.path / stray).unlink()
    signed.verify()


def test_publishing_drops_an_older_signature(signed: Artifact, tmp_path: Path) -> None:
    (signed.path / MANIFEST).unlink()
    artifact = publish(signed.path, tmp_path / "published", signed.manifest)
    artifact.verify()
    assert set(artifact.manifest.files) == {"model.onnx"}
    assert not (artifact.path / SIGNATURE).exists()


def test_a_device_demands_its_key_always(
    signed: Artifact, small_build: Path, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(pair[1]))
    with load(signed.path):
        pass
    with pytest.raises(SignatureError, match="is not signed"):
        load(small_build / "onnx")


def test_the_environments_key_holds_over_one_that_is_named(
    signed: Artifact, pair: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(create_keys(tmp_path / "other.key")))
    for open_artifact in (Artifact.open, load):
        with pytest.raises(UsageError, match=f"{VARIABLE} demands the key .*other.key.pub"):
            open_artifact(signed.path, key=pair[1])
    with pytest.raises(SignatureError, match="another key"):
        Artifact.open(signed.path)
    copied = tmp_path / "the same key.pub"
    copied.write_bytes(pair[1].read_bytes())
    monkeypatch.setenv(VARIABLE, str(copied))
    assert trusted(pair[1]) == Trust(read_public(pair[1]))
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UsageError, match="the trusted key is empty"):
        trusted(pair[1])


@pytest.mark.parametrize("kind", ["link", "link to nothing", "pipe", "folder"])
@pytest.mark.timeout(30)
def test_a_signature_that_is_no_file_proves_nothing(
    signed: Artifact, pair: tuple[Path, Path], tmp_path: Path, kind: str
) -> None:
    signature = signed.path / SIGNATURE
    signature.rename(tmp_path / "elsewhere")
    if kind == "pipe":
        os.mkfifo(signature)
    elif kind == "folder":
        signature.mkdir()
    else:
        signature.symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nothing"))
    refuse(signed, pair[1], r"manifest\.sig cannot be read \(.*\), so it proves nothing")


def test_a_weak_key_is_trusted_from_no_file_and_from_no_caller(
    signed: Artifact, tmp_path: Path
) -> None:
    identity = bytes([1]) + bytes(31)
    Signature(identity, identity + bytes(32)).write(signed.path)  # it verifies every text
    with pytest.raises(SignatureError, match="is weak"):
        Artifact.open(signed.path, Trust(identity))


def test_an_empty_variable_opens_nothing(
    small_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "")
    with pytest.raises(UsageError, match="the trusted key is empty"):
        load(small_build / "onnx")


def test_a_key_that_is_gone_opens_nothing(
    small_build: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "/no/such/key.pub")
    with pytest.raises(UsageError, match=r"cannot read the key /no/such/key\.pub"):
        load(small_build / "onnx")


def test_without_the_package_nothing_is_opened_that_must_be_signed(
    signed: Artifact, pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust = trusted(pair[1])
    monkeypatch.setattr(keys, "find_spec", lambda name: None)
    with pytest.raises(Unavailable, match="cryptography"):
        Artifact.open(signed.path, trust)
    assert Artifact.open(signed.path).trust == ANYONE


def test_the_process_of_a_session_asks_for_the_same_key(
    signed: Artifact, pair: tuple[Path, Path], small_reference: Reference
) -> None:
    target = Target(Artifact.open(signed.path, pair[1]), "cpu")
    (signed.path / SIGNATURE).unlink()
    (row,) = validate([target], small_reference, lambda device: None, budget=0)
    assert row.status == "error"
    assert "is not signed" in str(row.reason)


def test_what_this_process_made_is_judged_where_the_environment_demands_a_key(
    linear: Callable[..., Artifact],
    linear_reference: Reference,
    pair: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, str(pair[1]))
    (row,) = validate([Target(linear(), "cpu")], linear_reference, lambda device: None, budget=0)
    assert (row.status, row.reason) == ("passed", None)
