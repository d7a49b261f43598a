"""keygen, sign, verify, and the --key of what runs artifacts: from the CI to a device that refuses all others."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

import burnish
from runtimes.artifact.artifact import MANIFEST
from runtimes.artifact.signature import SIGNATURE, VARIABLE, SignatureError

Invoke = Callable[..., Result]


@pytest.fixture
def keys(invoke: Invoke, tmp_path: Path) -> tuple[Path, Path]:
    """The files of a private and a public key."""
    result = invoke("keygen", tmp_path / "ci.key")
    assert result.exit_code == 0
    assert "ci.key signs: keep it secret." in result.stdout
    return tmp_path / "ci.key", tmp_path / "ci.key.pub"


@pytest.fixture
def signed_build(invoke: Invoke, build_copy: Path, keys: tuple[Path, Path]) -> Path:
    """A copy of the shared build, signed."""
    assert invoke("sign", build_copy, "--key", keys[0]).exit_code == 0
    return build_copy


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """An input of the shared build's model."""
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 32, 32), np.float32))
    return tmp_path / "x.npy"


def names(build: Path) -> list[str]:
    return sorted(path.parent.name for path in build.glob(f"*/{MANIFEST}"))


def test_a_build_is_signed_and_verified_whole(
    invoke: Invoke, build_copy: Path, keys: tuple[Path, Path]
) -> None:
    result = invoke("sign", build_copy, "--key", keys[0])
    assert result.exit_code == 0
    checked = invoke("verify", build_copy, "--key", keys[1])
    assert checked.exit_code == 0
    folders = [*(build_copy / name for name in names(build_copy)), build_copy]
    for line, other, folder in zip(
        result.stdout.splitlines(), checked.stdout.splitlines(), folders, strict=True
    ):
        assert line.startswith(f"{folder}: signed by SHA256:")
        assert other == f"{line}, unchanged"
    assert invoke("verify", build_copy, "--key", keys[1], "--quiet").output == ""


def test_one_artifact_is_signed_alone(
    invoke: Invoke, build_copy: Path, keys: tuple[Path, Path]
) -> None:
    assert invoke("sign", build_copy / "onnx", "--key", keys[0], "--quiet").output == ""
    assert invoke("verify", build_copy / "onnx", "--key", keys[1]).exit_code == 0
    whole = invoke("verify", build_copy, "--key", keys[1])
    assert whole.exit_code == 1
    assert "torchscript is not signed" in whole.stderr
    assert "onnx: signed by" in whole.stdout


def test_every_kind_of_wrong_artifact_is_told_apart(
    invoke: Invoke, signed_build: Path, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    invoke("keygen", tmp_path / "other.key")
    shutil.copytree(signed_build / "onnx", signed_build / "theirs")
    invoke("sign", signed_build / "theirs", "--key", tmp_path / "other.key")
    shutil.copytree(signed_build / "onnx", signed_build / "edited")
    manifest = signed_build / "edited" / MANIFEST
    manifest.write_text(manifest.read_text(encoding="utf-8") + "\n", encoding="utf-8")
    (signed_build / "torchscript" / "model.pt").write_bytes(b"")
    shutil.rmtree(signed_build / "onnx")
    result = invoke("verify", signed_build, "--key", keys[1])
    assert result.exit_code == 1
    for words in (
        "theirs is signed by another key: SHA256:",
        "edited was changed after it was signed",
        "torchscript: model.pt was changed after it was made",
        "onnx is not an artifact",  # as build.json says that there was one
    ):
        assert words in result.stderr


def test_what_was_changed_is_not_signed_and_nothing_beside_it(
    invoke: Invoke, build_copy: Path, keys: tuple[Path, Path]
) -> None:
    (build_copy / "torchscript" / "extra").touch()
    result = invoke("sign", build_copy, "--key", keys[0])
    assert result.exit_code == 3
    assert "extra is not in the manifest" in result.stderr
    assert not list(build_copy.glob(f"*/{SIGNATURE}"))


def test_verify_asks_whose_signature(
    invoke: Invoke, signed_build: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = invoke("verify", signed_build)
    assert result.exit_code == 2
    assert f"--key PUBLIC, or in {VARIABLE}" in result.stderr
    monkeypatch.setenv(VARIABLE, str(keys[1]))
    assert invoke("verify", signed_build).exit_code == 0


@pytest.mark.parametrize("verb", ["sign", "verify"])
def test_wrong_requests_exit_2(
    invoke: Invoke, verb: str, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    key = keys[verb == "verify"]
    (tmp_path / "empty").mkdir()
    for folder, file in (
        (tmp_path / "empty", key),
        (tmp_path / "gone", key),
        (tmp_path, keys[verb == "sign"]),
    ):
        assert invoke(verb, folder, "--key", file).exit_code == 2
    assert invoke("sign", tmp_path).exit_code == 2


def test_run_refuses_what_the_key_has_not_signed(
    invoke: Invoke, small_build: Path, signed_build: Path, keys: tuple[Path, Path], picture: Path
) -> None:
    assert invoke("run", signed_build / "onnx", picture, "--key", keys[1]).exit_code == 0
    refused = invoke("run", small_build / "onnx", picture, "--key", keys[1])
    assert refused.exit_code == 3
    assert "onnx is not signed" in refused.stderr


def test_the_environment_demands_it_of_every_verb(
    invoke: Invoke,
    small_build: Path,
    signed_build: Path,
    keys: tuple[Path, Path],
    picture: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, str(keys[1]))
    assert invoke("run", signed_build / "onnx", picture).exit_code == 0
    for words in (
        ["run", small_build / "onnx", picture],
        ["inspect", small_build / "onnx"],
        ["bench", small_build / "onnx"],
        ["debug", small_build / "onnx"],
    ):
        refused = invoke(*words)
        assert refused.exit_code == 3
        assert "onnx is not signed" in refused.stderr
    with pytest.raises(SignatureError, match="is not signed"):
        burnish.load(small_build / "onnx")


def test_the_environment_demands_it_of_the_verdicts_that_are_compared(
    invoke: Invoke,
    small_build: Path,
    signed_build: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert invoke("compare", small_build).exit_code == 0
    monkeypatch.setenv(VARIABLE, str(keys[1]))
    assert invoke("compare", signed_build).exit_code == 0
    assert invoke("compare", signed_build / "build.json", "--quiet").exit_code == 0
    assert invoke("compare", tmp_path / "nothing").exit_code == 2
    refused = invoke("compare", signed_build, small_build)
    assert refused.exit_code == 3
    assert "is not signed as a whole: it has no build.sig" in refused.stderr
    assert refused.stdout == ""
    verdicts = signed_build / "build.json"
    verdicts.write_text(verdicts.read_text(encoding="utf-8") + " ", encoding="utf-8")
    refused = invoke("compare", signed_build, "--baseline", tmp_path / "b.json", "--update")
    assert refused.exit_code == 3
    assert "build.json was changed after it was signed" in refused.stderr
    assert not (tmp_path / "b.json").exists()


@pytest.mark.parametrize("verb", ["run", "validate", "verify"])
def test_a_named_key_does_not_replace_the_environments(
    invoke: Invoke,
    signed_build: Path,
    keys: tuple[Path, Path],
    picture: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    verb: str,
) -> None:
    invoke("keygen", tmp_path / "device.key")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "device.key.pub"))
    files = [picture] if verb == "run" else []
    refused = invoke(verb, signed_build / "onnx", *files, "--key", keys[1])
    assert refused.exit_code == 2
    assert f"{VARIABLE} demands the key" in refused.stderr


def test_exchanged_folders_of_a_signed_build_do_not_verify_or_run(
    invoke: Invoke, signed_build: Path, keys: tuple[Path, Path], picture: Path
) -> None:
    (signed_build / "onnx").rename(signed_build / "aside")
    (signed_build / "torchscript").rename(signed_build / "onnx")
    (signed_build / "aside").rename(signed_build / "torchscript")
    checked = invoke("verify", signed_build, "--key", keys[1])
    assert checked.exit_code == 1
    assert "onnx holds the artifact 'torchscript'" in checked.stderr
    assert "torchscript holds the artifact 'onnx'" in checked.stderr
    assert invoke("verify", signed_build / "onnx", "--key", keys[1]).exit_code == 1
    refused = invoke("run", signed_build / "onnx", picture, "--key", keys[1])
    assert refused.exit_code == 3
    assert "were exchanged or renamed after they were signed" in refused.stderr


def test_validate_opens_only_what_is_signed(
    invoke: Invoke, signed_build: Path, keys: tuple[Path, Path]
) -> None:
    (signed_build / "torchscript" / SIGNATURE).unlink()
    result = invoke("validate", signed_build, "--key", keys[1], "--no-speed", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)["artifacts"]}
    assert result.exit_code == 3
    assert rows["onnx"]["status"] == "passed"
    assert rows["torchscript"]["status"] == "error"
    assert "is not signed" in rows["torchscript"]["reason"]


def test_a_reference_that_no_signed_manifest_names_is_not_read(
    signed_build: Path, keys: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (signed_build / "reference.safetensors").write_bytes(b"made to harm its reader")
    monkeypatch.setattr(
        "burnish.revalidate.Reference.load", lambda path: pytest.fail("it was read")
    )
    build = burnish.validate(signed_build, speed=False, key=keys[1])
    assert {row.status for row in build.artifacts} == {"error"}
    assert all(
        "is not the one that it was built with" in str(row.reason) for row in build.artifacts
    )


def test_converting_something_else_drops_the_signature_and_needs_none(
    invoke: Invoke,
    tiny_recipe: Path,
    keys: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "out"
    burnish.convert(tiny_recipe, output, speed=False)
    assert invoke("sign", output, "--key", keys[0]).exit_code == 0
    monkeypatch.setenv(VARIABLE, str(keys[1]))
    (row,) = burnish.convert(tiny_recipe, output, speed=False).artifacts
    assert row.status == "passed"
    whole = invoke("verify", output)
    assert "torchscript: signed by" in whole.stdout, "what is unchanged is still what was signed"
    assert whole.exit_code == 1
    assert "it was converted again since, or signed by an earlier" in whole.stderr
    settings = ["artifacts.torchscript.method=trace"]
    (row,) = burnish.convert(tiny_recipe, output, speed=False, settings=settings).artifacts
    assert row.status == "passed"
    assert not (output / "torchscript" / SIGNATURE).exists()
    assert invoke("verify", output).exit_code == 1


def test_inspect_names_the_key_that_is_claimed(invoke: Invoke, signed_build: Path) -> None:
    result = invoke("inspect", signed_build / "onnx")
    assert result.exit_code == 0
    assert "claimed by SHA256:" in result.stdout
    (signed_build / "onnx" / SIGNATURE).write_bytes(b"?")
    words = invoke("inspect", signed_build / "onnx").stdout.split()
    assert "proves nothing" in " ".join(words), "wherever the line was wrapped"


@pytest.mark.parametrize("verb", ["sign", "verify"])
def test_a_folder_outside_of_the_build_is_neither_signed_nor_verified(
    invoke: Invoke, build_copy: Path, keys: tuple[Path, Path], tmp_path: Path, verb: str
) -> None:
    victim = tmp_path / "victim"
    shutil.copytree(build_copy / "onnx", victim)
    data = json.loads((build_copy / "build.json").read_text(encoding="utf-8"))
    data["artifacts"][0]["path"] = "../victim" if build_copy.parent == tmp_path else str(victim)
    (build_copy / "build.json").write_text(json.dumps(data), encoding="utf-8")
    result = invoke(verb, build_copy, "--key", keys[0 if verb == "sign" else 1])
    assert result.exit_code == 3 and "which is no folder of the build" in result.stderr
    assert not (victim / SIGNATURE).exists()


def test_a_pipe_for_a_signature_is_not_waited_on(
    invoke: Invoke, signed_build: Path, keys: tuple[Path, Path]
) -> None:
    (signed_build / "onnx" / SIGNATURE).unlink()
    os.mkfifo(signed_build / "onnx" / SIGNATURE)
    result = invoke("verify", signed_build / "onnx", "--key", keys[1])
    assert result.exit_code == 1 and "not a regular file" in result.stderr
