"""Find the layer where an artifact diverges from the eager model."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path

from converters.data.uses import some_samples
from converters.debug.result import DebugResult
from converters.debug.run import DebugRequest
from converters.debug.run import debug as run
from converters.plan.load import load_recipe
from converters.plan.plan import Plan, source_of
from converters.sources.load import Source
from converters.steps.workers.local import STEP_SECONDS
from runtimes.artifact.artifact import Artifact, Manifest
from runtimes.errors import Unavailable, UsageError
from runtimes.files.layout import REFERENCE_FILE
from runtimes.process.process import isolated
from runtimes.progress import Tell, watched


def debug(
    path: Path,
    recipe: str | Path | None,
    memory: int,
    top: int,
    progress: Tell,
    trust: bool = False,
) -> DebugResult:
    """Compare an artifact with the eager model, layer by layer, in a process of its own.

    Args:
        path: the artifact's folder, beside its build's reference.safetensors.
        recipe: names the model and its weights. A `python:` model needs it, since loading one runs
            the user's code; a torchvision model if its weights are a file in the recipe's folder.
        memory: megabytes for the values that are compared at once.
        top: number of layers that add most error to name.
        progress: is called with messages; a `Watcher` also gets counts.
        trust: open an artifact that is a program even if this user did not build it here.

    Raises:
        UsageError: there is no artifact, its format cannot be debugged, or the model or weights are
            not the artifact's.
        ArtifactError: a file of the artifact or the reference cannot be read, or the graph does not
            run.
        Unavailable: PyTorch is missing, or the device of a TensorRT engine.
    """
    manifest = Artifact.open(path).manifest
    if not find_spec("torch"):
        raise Unavailable(
            "debugging needs PyTorch for the eager model: pip install 'burnish[convert]'"
        )
    plan = load_recipe(recipe) if recipe is not None else None
    build = path.resolve().parent
    # If passes changed the model, the build holds it with a reference of its own.
    changed = build / manifest.build["changed"] if "changed" in manifest.build else None
    request = DebugRequest(
        path,
        (changed or build) / REFERENCE_FILE,
        _source(manifest, plan),
        memory * 1_000_000,
        top,
        plan.recipe.preprocess if plan else None,
        changed,
        partial(some_samples, plan.recipe, plan.folder) if plan else None,
        trust,
    )
    description = f"comparing {path}, layer by layer, with {manifest.model} in float64"
    progress(description)
    with watched(progress, description) as line:
        result: DebugResult = isolated(
            run, request, what=f"debugging {path}", timeout=STEP_SECONDS, line=line
        )
    return result


def _source(manifest: Manifest, plan: Plan | None) -> Source:
    """Return the source of the eager model with the artifact's weights."""
    args = manifest.build.get("model_args", {})
    if plan is None:
        if not manifest.model.startswith("torchvision:"):
            raise UsageError(
                f"{manifest.model} is your own code, which runs only on request: name its recipe "
                "with --recipe"
            )
        # The manifest has the resolved weights in parentheses: "DEFAULT (...)".
        weights = str(manifest.weights.get("source", "DEFAULT")).partition(" (")[0]
        model = manifest.model
        return Source(model, args, (weights,), Path(), model, manifest.inputs, manifest.dims)
    source = source_of(plan)
    if (source.model, source.args) != (manifest.model, args):
        raise UsageError(
            f"{plan.document.path} describes {source.model} with {source.args}, but the artifact "
            f"was made from {manifest.model} with {args}: name the recipe that it was built from"
        )
    return source
