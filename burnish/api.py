"""The Python API. Everything heavy is imported inside the calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from converters.plan.plan import Plan
from runtimes.results import Build
from runtimes.session import Session


def _silent(message: str) -> None:
    """Ignore a progress message: the default of calls from Python."""


def convert(
    recipe: str | Path,
    output: str | Path | None = None,
    *,
    settings: Sequence[str] = (),
    devices: Sequence[str] = (),
    require: Sequence[str] = (),
    speed: bool = True,
    seconds: float | None = None,
    progress: Callable[[str], None] = _silent,
    cache: bool = True,
    fresh: bool = False,
    jobs: int | None = None,
    memory: int | None = None,
) -> Build:
    """Build and prove every artifact of a recipe.

    Args:
        recipe: a path, or the name of a recipe in ./configs or Burnish's own.
        output: folder of the build; by default artifacts/NAME.
        settings: overrides of single values, such as "artifacts.onnx.opset=18".
        devices: instead of the recipe's: "cpu", "cuda", "intel-gpu", "intel-npu".
        require: names of artifacts that must pass, or "all"; an unknown name is refused before any
            work.
        speed: whether to measure speed-ups.
        seconds: time budget for the speed of each artifact; by default 8.
        progress: is called with messages, from any thread.
        cache: whether results of steps, and verdicts that passed, are reused from earlier builds if
            nothing that they depend on has changed, and cached for later builds.
        fresh: whether to rebuild and revalidate everything anyway, and cache the results.
        jobs: number of steps that run side by side; by default as many as cores and memory allow.
        memory: bytes that one step may use; by default most of this machine's.

    Returns:
        The result, as in build.json. Failed artifacts do not raise: see `artifacts[i].status`.

    Raises:
        runtimes.errors.UsageError: the recipe, the output folder or the model's source is wrong.
        runtimes.errors.BurnishError: loading the model failed.
    """
    from burnish.devices import check_devices
    from converters.plan.load import load_recipe
    from runtimes.results import check_required

    plan = load_recipe(recipe, settings)
    devices = check_devices(devices)
    check_required(require, plan.artifact_names)
    from converters.build.build import build
    from converters.build.options import BuildOptions

    options = BuildOptions(cache, fresh, jobs, memory)
    budget = _budget(speed, seconds)
    return build(plan, output_of(plan, output), devices, budget, progress, options)


def _budget(speed: bool, seconds: float | None) -> float:
    """Return the seconds of timing per artifact; 0 leaves speed unmeasured."""
    from runtimes.validator.defaults import BUDGET_SECONDS

    if not speed:
        return 0.0
    return BUDGET_SECONDS if seconds is None else seconds


def output_of(plan: Plan, output: str | Path | None) -> Path:
    """Return the folder of a recipe's build."""
    return Path(output) if output is not None else Path("artifacts") / plan.name


def load(
    path: str | Path,
    device: str | None = None,
    threads: int | None = None,
    cache: bool = False,
    key: str | Path | None = None,
    trust: bool = False,
) -> Session:
    """Load an artifact as a session: `session.run({"image": array}) -> {"logits": array}`.

    Args:
        path: the artifact's folder.
        device: "cpu", "cuda", "intel-gpu" or "intel-npu"; by default the artifact's first device.
        threads: CPU threads inside one operator; by default the engine's own choice.
        cache: cache what the engine compiles in the user's cache folder, so that the next load is
            faster (OpenVINO).
        key: file of the public key that must have signed the artifact; by default that of
            BURNISH_TRUSTED_KEY, if it is set.
        trust: open an artifact that is a program (all formats but onnx and openvino) even if you
            did not build it here, and no key that you trust has signed it.

    Raises:
        runtimes.errors.UsageError: there is no artifact or key, or it does not run on `device`.
        runtimes.errors.Untrusted: a program that was not built here, without `trust`.
        runtimes.artifact.signature.SignatureError: the key has not signed it; none of its files has
            been read.
        runtimes.errors.ArtifactError: a file is missing, changed or not listed in the manifest.
        runtimes.errors.Unavailable: this machine lacks the device or the engine.
    """
    from runtimes.session import SessionOptions
    from runtimes.session import load as load_session

    options = SessionOptions(threads=threads, cache=cache, trust=trust)
    return load_session(path, device, options, key)


def validate(
    path: str | Path,
    *,
    recipe: str | Path | None = None,
    devices: Sequence[str] = (),
    require: Sequence[str] = (),
    speed: bool = True,
    seconds: float | None = None,
    trust: bool = False,
    progress: Callable[[str], None] = _silent,
    key: str | Path | None = None,
) -> Build:
    """Validate a build, or one artifact of it, again on this machine; nothing on disk changes.

    Args:
        path: folder of a build, or of an artifact beside its build's reference.safetensors.
        recipe: recipe of a `python:` model, to compare its speed with the eager model. Loading that
            model runs its code, so its recipe must be named here. torchvision models need none.
        devices: instead of those of the build.
        require: names of artifacts that must pass, or "all"; an unknown name is refused before any
            work.
        speed: whether to measure speed-ups.
        seconds: time budget for the speed of each artifact; by default 8.
        trust: open artifacts that are programs even if you did not build them here; otherwise each
            is an `error`.
        progress: is called with messages.
        key: file of the public key that must have signed each artifact. An artifact that it has not
            signed is not opened, and its row is an `error`. By default that of BURNISH_TRUSTED_KEY,
            if it is set.

    Raises:
        runtimes.errors.UsageError: there is no build, artifact or key.
    """
    from burnish.devices import check_devices
    from burnish.revalidate import RevalidateOptions, revalidate
    from runtimes.artifact.signature import trusted

    options = RevalidateOptions(
        recipe=recipe,
        devices=check_devices(devices),
        require=require,
        budget=_budget(speed, seconds),
        signer=trusted(key),
        trust=trust,
    )
    return revalidate(Path(path), options, progress)
