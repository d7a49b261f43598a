"""A signed build binds names, manifests and verdicts: nothing in it can be exchanged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import burnish
from burnish.signing import sign_all, verify_all
from runtimes.artifact.artifact import MANIFEST, Artifact
from runtimes.artifact.build_signature import check_build
from runtimes.artifact.keys import create_keys
from runtimes.artifact.signature import ANYONE, SIGNATURE, SignatureError, Trust, trusted
from runtimes.errors import ArtifactError
from runtimes.files.layout import BUILD_FILE, BUILD_SIGNATURE
from tests.security.forgery import graph, manifest, write_artifact

NAMES = ("onnx", "torchscript")


def make_build(folder: Path, weights: float = 1.0) -> Path:
    """Write a build of two artifacts that differ in their names alone."""
    rows = []
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        files = {"model.onnx": graph().SerializeToString()}
        facts = {**manifest("onnx", files, "model.onnx"), "name": name, "burnish": str(weights)}
        write_artifact(folder / name, files, json.dumps(facts))
        rows.append(
            {"name": name, "format": "onnx", "device": "cpu", "status": "passed", "path": name}
        )
    build = {
        "recipe": {},
        "model": "m",
        "weights": {"w": weights},
        "machine": {},
        "artifacts": rows,
    }
    (folder / BUILD_FILE).write_text(json.dumps(build), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a private key."""
    path = tmp_path_factory.mktemp("keys") / "ci.key"
    create_keys(path)
    return path


@pytest.fixture
def trust(private: Path) -> Trust:
    """Trust in the key."""
    return trusted(private.with_name("ci.key.pub"))


@pytest.fixture
def build(tmp_path: Path, private: Path) -> Path:
    """A signed build."""
    folder = make_build(tmp_path / "build")
    sign_all(folder, private)
    return folder


def problems(build: Path, trust: Trust) -> dict[str, str]:
    """What is wrong, by the name of the folder."""
    checks = verify_all(build, trust)
    return {check.folder.name: check.problem for check in checks if check.problem}


def exchange(first: Path, second: Path) -> None:
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)


def test_a_signed_build_verifies_whole_and_each_artifact_wherever_it_is_copied(
    build: Path, trust: Trust, tmp_path: Path
) -> None:
    assert problems(build, trust) == {}
    for name in NAMES:
        Artifact.open(build / name, trust).verify()
    shutil.copytree(build / "onnx", tmp_path / "elsewhere")  # outside of a build: as before
    Artifact.open(tmp_path / "elsewhere", trust).verify()


@pytest.mark.parametrize("with_list", [True, False], ids=["", "its list removed"])
def test_exchanged_folders_are_refused_by_verify_and_by_whatever_opens_them(
    build: Path, trust: Trust, with_list: bool
) -> None:
    exchange(build / "onnx", build / "torchscript")
    if not with_list:
        (build / BUILD_SIGNATURE).unlink()
    assert {*NAMES} <= problems(build, trust).keys()
    with pytest.raises(SignatureError, match="holds the artifact 'torchscript': the folders"):
        Artifact.open(build / "onnx", trust)
    Artifact.open(build / "onnx", ANYONE).verify()


def test_exchanged_manifests_and_files_are_exchanged_folders(build: Path, trust: Trust) -> None:
    for name in (MANIFEST, SIGNATURE):
        exchange(build / "onnx" / name, build / "torchscript" / name)
    assert {*NAMES} <= problems(build, trust).keys()


def test_a_folder_that_is_a_link_to_another_is_refused(build: Path, trust: Trust) -> None:
    shutil.rmtree(build / "onnx")
    (build / "onnx").symlink_to("torchscript")
    assert "holds the artifact 'torchscript'" in problems(build, trust)["onnx"]


def test_a_link_to_a_signed_artifact_opens_it(build: Path, trust: Trust, tmp_path: Path) -> None:
    (tmp_path / "current").symlink_to(build / "onnx")
    Artifact.open(tmp_path / "current", trust).verify()


def test_an_artifact_of_another_build_of_the_same_key_is_refused(
    build: Path, trust: Trust, tmp_path: Path, private: Path
) -> None:
    older = make_build(tmp_path / "older", weights=0.5)
    sign_all(older, private)
    shutil.rmtree(build / "onnx")
    shutil.copytree(older / "onnx", build / "onnx")
    assert "is not the artifact that was signed with this build" in problems(build, trust)["onnx"]
    with pytest.raises(SignatureError, match="is not the artifact that was signed with this build"):
        Artifact.open(build / "onnx", trust)


def test_an_artifact_that_was_added_is_refused(build: Path, trust: Trust, private: Path) -> None:
    shutil.copytree(build / "onnx", build / "more")
    manifest_file = build / "more" / MANIFEST
    manifest_file.write_text(manifest_file.read_text().replace('"onnx",', '"more",', 1))
    sign_all(build / "more", private)  # by the key's owner, but not as part of this build
    assert set(problems(build, trust)) == {"more"}


def test_the_verdicts_are_signed(build: Path, trust: Trust) -> None:
    check_build(build, trust)
    check_build(build / BUILD_FILE, trust)
    file = build / BUILD_FILE
    file.write_text(file.read_text(encoding="utf-8").replace("passed", "failed"), encoding="utf-8")
    for place in (build, file):
        with pytest.raises(SignatureError, match=r"build\.json was changed after it was signed"):
            check_build(place, trust)
    assert set(problems(build, trust)) == {"build"}


def test_verdicts_and_list_of_another_build_bind_its_artifacts(
    build: Path, trust: Trust, tmp_path: Path, private: Path
) -> None:
    older = make_build(tmp_path / "older", weights=0.5)
    sign_all(older, private)
    for name in (BUILD_FILE, BUILD_SIGNATURE):
        shutil.copy(older / name, build / name)
    check_build(build, trust)
    assert {*NAMES} <= problems(build, trust).keys()


def test_a_build_that_was_signed_by_an_earlier_burnish_says_so_and_its_artifacts_verify(
    build: Path, trust: Trust
) -> None:
    (build / BUILD_SIGNATURE).unlink()
    for name in NAMES:
        Artifact.open(build / name, trust).verify()
    (message,) = problems(build, trust).values()
    assert "it has no build.sig" in message
    assert "signed by an earlier Burnish, which wrote none" in message
    assert "Its artifacts verify one by one; `burnish sign BUILD` signs it" in message


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"\xff" * 200),
        lambda path: path.write_bytes(path.read_bytes() + b"\n"),
        lambda path: path.write_bytes(path.read_bytes().replace(b"onnx/", b"evil/")),
        lambda path: path.write_bytes(path.read_bytes().partition(b"\n")[0] + b"\n"),
        lambda path: (path.rename(path.with_name("s")), path.symlink_to("s")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["empty", "no text", "longer", "other names", "no list", "link", "pipe", "folder"],
)
@pytest.mark.timeout(30)
def test_a_damaged_list_proves_nothing(
    build: Path, trust: Trust, damage: Callable[[Path], object]
) -> None:
    damage(build / BUILD_SIGNATURE)
    assert set(problems(build, trust)) == {"build", *NAMES}
    with pytest.raises(SignatureError):
        Artifact.open(build / "onnx", trust)


def test_another_keys_list_is_refused(build: Path, trust: Trust, tmp_path: Path) -> None:
    create_keys(tmp_path / "other.key")
    copied = shutil.copytree(build, tmp_path / "copied")
    sign_all(copied, tmp_path / "other.key")
    shutil.copy(copied / BUILD_SIGNATURE, build / BUILD_SIGNATURE)
    with pytest.raises(SignatureError, match="is signed by another key"):
        check_build(build, trust)


def test_a_manifest_is_no_list_and_a_list_no_manifest(build: Path, trust: Trust) -> None:
    shutil.copy(build / "onnx" / SIGNATURE, build / BUILD_SIGNATURE)
    with pytest.raises(SignatureError, match="was changed after it was signed"):
        check_build(build, trust)


def test_folders_that_were_exchanged_are_not_signed(tmp_path: Path, private: Path) -> None:
    folder = make_build(tmp_path / "build")
    exchange(folder / "onnx", folder / "torchscript")
    with pytest.raises(ArtifactError, match="holds the artifact 'torchscript'"):
        sign_all(folder, private)
    assert not list(folder.rglob("*.sig"))


def test_building_again_drops_the_signature_of_the_build_before(
    small_recipe: Path, tmp_path: Path, private: Path, trust: Trust
) -> None:
    settings = ["artifacts.torchscript=null", "artifacts.tensorrt=null"]
    output = tmp_path / "out"
    burnish.convert(small_recipe, output, settings=settings, speed=False)
    sign_all(output, private)
    assert problems(output, trust) == {}
    burnish.convert(small_recipe, output, settings=settings, speed=False)
    assert not (output / BUILD_SIGNATURE).exists()
    Artifact.open(output / "onnx", trust)  # unchanged, and so still signed
