"""Names and messages from elsewhere are shown, and never obeyed. `invoke` checks all that each verb shows."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pytest
from onnx import helper
from rich.console import Console
from typer.testing import Result

import burnish
from burnish.report.terminal import show_builds, show_pairs, show_table
from runtimes.files.layout import REFERENCE_FILE
from runtimes.results import Build
from runtimes.validator.probes import Probe
from runtimes.validator.reference import Reference
from tests.security.forgery import ESCAPES, check_clean, graph

Foreign = Callable[..., Path]
Invoke = Callable[..., Result]
SHOWN = r"\x1b]0;owned\x07\x1b[2J\x1b[31m\x202egnp"


@pytest.fixture
def hostile(foreign: Foreign, tmp_path: Path) -> Path:
    """An artifact that runs, whose every name is an attack on the terminal, in a folder that is one, too."""
    model = graph(nodes=[helper.make_node("Add", ["x", "w"], ["y"], name=ESCAPES)])
    path = foreign(
        "onnx",
        {"model.onnx": model.SerializeToString()},
        "model.onnx",
        name=ESCAPES,
        format=ESCAPES,
        model=ESCAPES,
        burnish=ESCAPES,
        weights={"source": ESCAPES, "tried": [{"source": ESCAPES, "why": ESCAPES}]},
        task="classification",
        classes=[ESCAPES] * 4,
        build={
            "notes": [ESCAPES],
            "operators": {ESCAPES: 1},
            "compute_layers": {"fp32": 20, ESCAPES: 1},
            "versions": {ESCAPES: ESCAPES},
            "unfused": [{"operator": ESCAPES, "layer": ESCAPES, "why": ESCAPES}],
            "method": ESCAPES,
            "rewrites": {ESCAPES: [ESCAPES]},
        },
    )
    probe = Probe(ESCAPES, {"x": np.zeros((1, 4), np.float32)})
    answers = [{"y": np.arange(1, 5, dtype=np.float32)[None]}]
    truth = [{name: array.astype(np.float64) for name, array in answers[0].items()}]
    Reference([probe], answers, truth, notes=[ESCAPES]).save(tmp_path / REFERENCE_FILE)
    return path.rename(tmp_path / ESCAPES.replace("/", "_"))


@pytest.mark.parametrize("json_too", [(), ("--json",)], ids=["table", "json"])
@pytest.mark.parametrize(
    "verb", [("inspect",), ("validate", "--no-speed"), ("run",), ("bench", "--seconds", "0.1"), ("debug",)],
    ids=lambda verb: verb[0],
)  # fmt: skip
def test_every_verb_shows_a_hostile_artifact(
    hostile: Path,
    invoke: Invoke,
    monkeypatch: pytest.MonkeyPatch,
    verb: tuple[str, ...],
    json_too: tuple[str, ...],
) -> None:
    monkeypatch.setattr("burnish.bench.BENCH_LAUNCHES", 1)
    given = []
    if verb[0] == "run":
        given = [hostile.parent / f"{hostile.name}.npy"]
        np.save(given[0], np.zeros((1, 4), np.float32))
    result = invoke(verb[0], hostile, *given, *verb[1:], *json_too)
    assert result.exit_code == (2 if verb[0] == "debug" else 0)
    if json_too and verb[0] != "debug":
        json.loads(result.stdout)
        assert result.stdout.isascii()
        assert r"\u001b]0;owned\u0007" in result.stdout, "JSON escapes in its own way"
    else:
        assert SHOWN in "".join(result.output.split("\n"))


def test_errors_show_hostile_paths(invoke: Invoke, tmp_path: Path) -> None:
    for verb, *more in (("inspect",), ("validate",), ("run", "x.npy"), ("bench",), ("compare",)):
        result = invoke(verb, tmp_path / ESCAPES, *more)
        assert result.exit_code == 2
        assert SHOWN in result.stderr
    assert r"\x1b]0;owned" in invoke("convert", tmp_path / ESCAPES).stderr


def test_errors_show_a_hostile_recipe(invoke: Invoke, tmp_path: Path) -> None:
    quoted = json.dumps(ESCAPES)
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"{quoted}: 1\nmodel: {quoted}\nweights: {quoted}\ninputs: {{{quoted}: {{shape: [{quoted}]}}}}\n"
        f"artifacts: {{{quoted}: {{{quoted}: {quoted}}}}}\n",
        encoding="utf-8",
    )
    result = invoke("convert", recipe)
    assert result.exit_code == 2
    assert result.stderr.count(SHOWN) >= 4
    invoke("convert", recipe, "--set", f"{ESCAPES}={ESCAPES}")


def test_a_hostile_build_is_compared(invoke: Invoke, tmp_path: Path) -> None:
    row = {
        "name": ESCAPES,
        "format": ESCAPES,
        "device": ESCAPES,
        "status": "failed",
        "reason": ESCAPES,
        "precision": ESCAPES,
        "notes": [ESCAPES],
        "gates": [{"gate": ESCAPES, "ok": False, "detail": ESCAPES}],
        "speed": {"eager_ms": 1, "parent": {"name": ESCAPES, "size_bytes": 5}},
    }
    build = {
        "recipe": {"name": ESCAPES},
        "model": ESCAPES,
        "artifacts": [row],
        "notes": [ESCAPES],
        "weights": {
            "source": ESCAPES,
            "random": True,
            "tried": [{"source": ESCAPES, "why": ESCAPES}],
        },
        "machine": {"cpu": ESCAPES, "cores": 2, "isa": [ESCAPES], "gpus": [ESCAPES]},
    }
    (tmp_path / "build.json").write_text(json.dumps(build), encoding="utf-8")
    baseline = tmp_path / f"b{ESCAPES.replace('/', '_')}.json"
    assert invoke("compare", tmp_path).stdout.count(SHOWN) >= 5
    assert SHOWN in invoke("compare", tmp_path, "--baseline", baseline, "--update").stderr
    build["artifacts"] = []
    (tmp_path / "build.json").write_text(json.dumps(build), encoding="utf-8")
    assert SHOWN in invoke("compare", tmp_path, "--baseline", baseline).stderr


def on_a_terminal(show: Callable[[Console], Any]) -> str:
    """What a terminal gets, without the codes that rich itself writes for the styles of text and tables."""
    file = io.StringIO()
    show(Console(file=file, force_terminal=True, width=400, highlight=False))
    plain = file.getvalue()
    for code in ("0", "1", "2", "31", "32", "33", "1;31", "1;33"):
        plain = plain.replace(f"\x1b[{code}m", "")
    return plain


def test_on_a_terminal_nothing_is_obeyed_either() -> None:
    row = {"name": ESCAPES, "format": "onnx", "device": "cpu", "status": "error", "reason": ESCAPES}
    build = Build.model_validate(
        {
            "recipe": {},
            "model": ESCAPES,
            "weights": {"source": ESCAPES},
            "machine": {},
            "artifacts": [row],
        }
    )
    for show in (
        lambda out: show_builds([build, build.model_copy(update={"model": "b"})], out),
        lambda out: show_pairs([(ESCAPES, ESCAPES)], out),
        lambda out: show_table(["a"], [[ESCAPES]], out),
    ):
        shown = on_a_terminal(show)
        check_clean(shown)
        assert "[red]forged[/red]" in shown, "markup is text"


def test_progress_is_one_clean_line_per_step(capsys: pytest.CaptureFixture[str]) -> None:
    from burnish.progress import progress

    with progress(False) as tell:
        tell(ESCAPES)
    shown = capsys.readouterr().err
    check_clean(shown)
    assert len(shown.splitlines()) == 1


def check_obeyed(text: str) -> None:
    """Nothing that a terminal obeys; messages of several lines are Burnish's own."""
    assert [letter for letter in text if not letter.isprintable() and letter != "\n"] == []


def test_errors_of_every_kind_are_harmless_in_a_programs_own_traceback(tmp_path: Path) -> None:
    from converters.recipe.document import Mark, RecipeError
    from runtimes.artifact.signature import SignatureError
    from runtimes.errors import ArtifactError, InputError, Unavailable, UsageError

    for kind in (ArtifactError, InputError, SignatureError, Unavailable, UsageError):
        check_obeyed("".join(traceback.format_exception_only(kind(ESCAPES))))
    check_obeyed(str(RecipeError.at(Mark(ESCAPES), ESCAPES, ESCAPES)))
    with pytest.raises(UsageError) as caught:
        burnish.load(tmp_path / ESCAPES.replace("/", "_"))
    check_obeyed(str(caught.value))
    assert SHOWN.split("\\x202e")[0] in str(caught.value)


def test_warnings_and_log_records_of_libraries_are_harmless(tmp_path: Path) -> None:
    code = f"""
        import logging, sys, warnings
        from burnish.cli.verb import verb

        @verb
        def talk() -> int:
            warnings.warn({ESCAPES!r})
            logging.getLogger("engine").error("%s and %d", {ESCAPES!r}, 5)
            logging.getLogger("engine").error("a mistake %d", "of its own")
            return 0

        for _ in range(3):
            try:
                talk()
            except BaseException:
                pass
    """
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", dedent(code)],
        check=True,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    check_clean(done.stderr)
    assert done.stderr.count(r"\x1b]0;owned\x07") >= 6
    assert "and 5" in done.stderr


def test_tensorrts_own_messages_are_harmless(capsys: pytest.CaptureFixture[str]) -> None:
    trt = pytest.importorskip("tensorrt_rtx", reason="one of TensorRT's packages is what logs")
    from runtimes.engines.tensorrt import quiet_logger

    logger = quiet_logger(trt)
    logger.log(trt.ILogger.Severity.WARNING, "not shown")
    logger.log(trt.ILogger.Severity.ERROR, ESCAPES)
    assert trt.Runtime(logger).deserialize_cuda_engine(b"no plan") is None
    shown = capsys.readouterr().err
    check_clean(shown)
    assert r"[TensorRT] \x1b]0;owned\x07" in shown
    assert "not shown" not in shown
    assert shown.count("[TensorRT]") > 1, "its own error, too"
